"""What one check of a payment or of a demand does: `off`, `warn`, `refuse`, or that in the shadow. No I/O."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from guardian.policy.rules import Mode
from guardian.policy.section import Section
from guardian.policy.units import show

Doing = Literal["off", "warn", "refuse"]


class CheckPolicy(Section):
    """What one check does."""

    do: Doing = Field(
        description="`refuse` answers the caller with the field and the cure, and sends nothing; `warn` "
        "counts and logs, and sends; `off` does not look."
    )
    mode: Mode = Field(
        default=Mode.ENFORCE,
        description="`shadow` looks, counts and logs what it would have done, and lets everything pass.",
    )

    @property
    def done(self) -> Literal["", "shadow", "refused", "warned"]:
        """What is done about a fault that it finds, as it is counted; "" where it does not look."""
        if self.do == "off":
            return ""
        if self.mode is Mode.SHADOW:
            return "shadow"
        return "refused" if self.do == "refuse" else "warned"


def _check(value: object) -> object:
    if isinstance(value, CheckPolicy | dict):
        return value
    if not isinstance(value, str) or value not in ("off", "warn", "refuse"):
        said = "write off, warn or refuse, or {do: refuse, mode: shadow}"
        raise ValueError(f"{show(value)} is nothing that a check can do; {said}")
    return {"do": value}


_CHECK_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["off", "warn", "refuse"]},
        {
            "type": "object",
            "properties": {
                "do": {"enum": ["off", "warn", "refuse"]},
                "mode": {"enum": ["enforce", "shadow"], "default": "enforce"},
            },
            "required": ["do"],
            "additionalProperties": False,
        },
    ]
}
Check = Annotated[CheckPolicy, BeforeValidator(_check), WithJsonSchema(_CHECK_SCHEMA)]
REFUSE = CheckPolicy(do="refuse")
WARN = CheckPolicy(do="warn")
