"""Rules of the policy over replies: `classify:` says what a reply means, `act:` what is done about it.

Models and matching only, pure. What a rule may not say is refused in lawful.py; how rules and the
built-in classification meet is decided in judge.py.
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from pydantic import BeforeValidator, ConfigDict, Field

from guardian.policy.section import Section
from guardian.policy.types import (
    Flag,
    Name,
    NetworkName,
    OneOrMore,
    ReasonText,
    Sentence,
    Status,
    TextGlob,
    Written,
)
from guardian.settlement.classify import innermost
from guardian.settlement.saying import Shape
from guardian.settlement.verdict import Alert, Health, Operation, Outcome
from guardian.wire.reply import read_settle_reply, read_verify_reply

__all__ = [
    "ActPolicy",
    "ActRule",
    "Action",
    "Alert",
    "ClassifyDefault",
    "ClassifyPolicy",
    "ClassifyRule",
    "Heard",
    "History",
    "Mode",
    "Said",
    "Transport",
    "When",
    "WhenClass",
    "has_words",
    "read_said",
]

MAX_TEXT = 16_384
"""Characters of a reply that a rule's text is looked for in; no error text is longer."""


class Transport(StrEnum):
    """How far an attempt got."""

    REPLY = "reply"  # a whole reply came
    NOT_SENT = "not_sent"  # the facilitator provably received nothing
    TIMEOUT = "timeout"  # sent, and no whole reply within the time
    LOST = "lost"  # sent, and the connection broke


class History(StrEnum):
    """What came before this attempt of the same authorization. An attempt that was not sent counts for
    nothing."""

    FIRST = "first"
    REPEATED = "repeated"  # sent before, and the reply proved that it was not executed
    IN_DOUBT = "in_doubt"  # an earlier attempt may have been executed (the taint rule)


class Mode(StrEnum):
    """Shadow: evaluated, counted and logged, not applied."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Heard(msgspec.Struct, frozen=True):
    """One attempt as a rule sees it. status and body: of the reply, 0 and empty without one; profile:
    where it is not the facilitator's own; network: CAIP-2; detail: the transport's own words where no
    reply came."""

    operation: Operation
    facilitator: str = ""
    profile: str = ""
    network: str = ""
    status: int = 0
    body: bytes = b""
    transport: Transport = Transport.REPLY
    history: History = History.FIRST
    detail: str = ""


class Said(msgspec.Struct, frozen=True):
    """What a reply says, taken apart once for all rules. status: 0 without a reply; shape: None without
    one; texts: in lower case, white space as one blank."""

    status: int = 0
    shape: Shape | None = None
    reasons: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def read_said(heard: Heard) -> Said:
    """The innermost reply as the built-in classification reads it, or the transport's words."""
    if heard.transport is not Transport.REPLY:
        return Said(texts=(_folded(heard.detail),))
    status, body, said = innermost(heard.operation, heard.status, heard.body)
    settle = heard.operation is Operation.SETTLE
    reply = read_settle_reply(status, body) if settle else read_verify_reply(status, body)
    parts = (reply.message, reply.reason, *said.text[:MAX_TEXT].split(" | "))
    return Said(
        status=status,
        shape=said.shape,
        reasons=(said.listed, reply.reason, said.error_type),
        texts=tuple(_folded(part) for part in parts),
    )


def _folded(text: str) -> str:
    return " ".join(text[:MAX_TEXT].lower().split())


class When(Section):
    """What must hold for a rule to match: every key given, and of a list any one entry."""

    profile: OneOrMore[Name] = Field(default=(), description="The facilitator's profile.")
    facilitator: OneOrMore[Name] = Field(default=(), description="The facilitator, by its name here.")
    network: OneOrMore[NetworkName] = Field(
        default=(), description="CAIP-2 id, or a family of them: `eip155:*`."
    )
    operation: OneOrMore[Operation] = Field(default=(), description="What was asked: verify or settle.")
    status: OneOrMore[Status] = Field(
        default=(), description="HTTP status of the reply: `503`, or a class: `5xx`."
    )
    body: Literal["any", "empty", "html", "json", "not_json"] = Field(
        default="any", description="The reply's body; json is a JSON object, not_json whatever is none."
    )
    reason: OneOrMore[ReasonText] = Field(
        default=(), description="The reply's errorReason, invalidReason or errorType, exactly."
    )
    text: OneOrMore[TextGlob] = Field(
        default=(),
        description="Words in any text of the reply; upper and lower case alike, `*` for anything between.",
    )
    transport: OneOrMore[Transport] = Field(
        default=(), description="How far the attempt got: reply, not_sent, timeout or lost."
    )
    history: OneOrMore[History] = Field(
        default=(), description="What came before it: first, repeated (provably not executed) or in_doubt."
    )

    def matches(self, heard: Heard, said: Said, profile: str = "") -> bool:
        """Whether all that is asked for holds. profile: of the facilitator; heard's own comes before."""
        return (
            (not self.operation or heard.operation in self.operation)
            and (not self.transport or heard.transport in self.transport)
            and (not self.history or heard.history in self.history)
            and (not self.facilitator or heard.facilitator in self.facilitator)
            and (not self.profile or (heard.profile or profile) in self.profile)
            and (not self.network or any(network_matches(heard.network, one) for one in self.network))
            and (not self.status or any(_is_status(said.status, one) for one in self.status))
            and _is_body(said.shape, self.body)
            and (not self.reason or any(reason in said.reasons for reason in self.reason))
            and (not self.text or any(has_words(text, one) for one in self.text for text in said.texts))
        )


def network_matches(network: str, wanted: str) -> bool:
    """Whether a network is the one wanted, or of the family wanted (`eip155:*`)."""
    return network.startswith(wanted[:-1]) if wanted.endswith(":*") else network == wanted


def _is_status(status: int, wanted: str) -> bool:
    return status // 100 == int(wanted[0]) if wanted.endswith("xx") else status == int(wanted)


def _is_body(shape: Shape | None, wanted: str) -> bool:
    match wanted:
        case "any":
            return True
        case "empty":
            return shape is Shape.EMPTY
        case "html":
            return shape is Shape.HTML
        case "json":
            return shape is Shape.OBJECT
        case _:
            return shape is not None and shape is not Shape.OBJECT


def has_words(text: str, glob: str) -> bool:
    """Whether a text in lower case has all parts of a glob, one after another.

    The first place for each part is the best one, so that once through the text is enough.
    """
    start = 0
    for part in glob.split("*"):
        found = text.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return True


class ClassifyRule(Section):
    """What a reply means, where `when` holds."""

    name: Name = Field(description="Stands in logs, metrics and records where this rule decided.")
    when: When = Field(description="What must hold, all of it.")
    class_: Literal["transient", "settlement", "permanent", "unknown"] = Field(
        description="transient: provably not executed, may go again. permanent: provably not executed, "
        "and never will be. settlement: may have moved money. unknown: for you to look at."
    )
    mode: Mode = Field(default=Mode.ENFORCE, description="shadow: counted and logged, not applied.")
    health: Annotated[Health | None, Written] = Field(
        default=None, description="What it says of the facilitator, for its circuit; default: as built in."
    )
    failover: Flag = Field(default=False, description="Another facilitator may be asked.")
    cure: Sentence = Field(default="", description="What to change, for the caller's errorMessage.")
    alert: Alert = Field(default=Alert.OFF, description="Who is told: off, log or page.")


def _settlement(value: object) -> object:
    if value != "settlement":
        raise ValueError(
            "law 1 (unresolved is not failed): a settle that nothing recognises may have moved money; "
            "write settlement, and list what is known in rules"
        )
    return value


class ClassifyDefault(Section):
    """What a reply means that nothing recognises."""

    settle: Annotated[Literal["settlement"], BeforeValidator(_settlement)] = Field(
        default="settlement", description="On /settle: always settlement (law 1)."
    )
    verify: Literal["transient", "permanent", "unknown"] = Field(
        default="unknown", description="On /verify, where nothing can have been sent."
    )


class _WithDefault(Section):
    """A section in which a person must say what holds where no rule matches; coherence.py asks for it."""

    model_config = ConfigDict(json_schema_extra={"required": ["default"]})


class ClassifyPolicy(_WithDefault):
    """First match wins; then the facilitator's profile, then what is built in, then the default."""

    rules: tuple[ClassifyRule, ...] = Field(
        default=(), max_length=256, description="In order; the first that matches decides."
    )
    default: ClassifyDefault = Field(
        default=ClassifyDefault(), description="What a reply means that nothing recognises; must be written."
    )


class WhenClass(When):
    """As `when`, and the class that the reply was given."""

    class_: OneOrMore[Outcome] = Field(default=(), description="The class that the reply was given.")


class Action(Section):
    """What is done about a reply; what is not given stays as the class has it."""

    retry: Annotated[Flag | None, Written] = Field(
        default=None, description="The same facilitator again, within `retry:`."
    )
    failover: Annotated[Flag | None, Written] = Field(default=None, description="Another facilitator.")
    circuit: Annotated[Health | None, Written] = Field(
        default=None, description="What it says of the facilitator: healthy, faulty or neutral."
    )
    watch: Annotated[Flag | None, Written] = Field(
        default=None, description="Ask the chain what became of the payment."
    )
    answer: Annotated[Literal["reason", "pending"] | None, Written] = Field(
        default=None, description="Hand on the failure, or keep the caller waiting for the chain."
    )
    alert: Annotated[Alert | None, Written] = Field(
        default=None, description="Who is told: off, log or page."
    )


class ActRule(Action):
    """An action where `when` holds."""

    name: Name = Field(description="Stands in logs and metrics where this rule was applied.")
    when: WhenClass = Field(description="What must hold, all of it.")
    mode: Mode = Field(default=Mode.ENFORCE, description="shadow: counted and logged, not applied.")


class ActPolicy(_WithDefault):
    """First match wins, else the default; what neither says follows from the class."""

    rules: tuple[ActRule, ...] = Field(
        default=(), max_length=256, description="In order; the first that matches decides."
    )
    default: Action = Field(
        default=Action(), description="What is done where no rule matches; must be written, `{}` for nothing."
    )
