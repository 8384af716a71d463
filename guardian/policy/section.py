"""The model that every part of a policy file shares, and how its keys are spelled there. No I/O.

Attribute names end in their unit; the YAML key is the name without it, because there the unit is part
of the value. `load.py` validates by YAML key only; code builds models by attribute name.
"""

from pydantic import BaseModel, ConfigDict


def yaml_key(attribute: str) -> str:
    """The key that the policy file uses for an attribute."""
    return attribute.removesuffix("_s").removesuffix("_")


class Section(BaseModel):
    """Frozen, unknown keys are errors, and no input is echoed in errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=yaml_key,
        validate_by_name=True,
        validate_by_alias=True,
    )
