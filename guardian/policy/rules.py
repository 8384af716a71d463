"""Rules of the policy over replies: `classify:` says what a reply means, `act:` what is done about it.

Models and matching only, pure. What a rule may not say is refused in lawful.py; how rules and the
built-in classification meet is decided in judge.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import Field

from guardian.policy.section import Section
from guardian.policy.types import Name, NetworkName, OneOrMore, ReasonText, Sentence, Status, TextGlob
from guardian.settlement.verdict import Health, Operation, Outcome


class Transport(StrEnum):
    """How far an attempt got."""

    REPLY = "reply"  # a whole reply came
    NOT_SENT = "not_sent"  # the facilitator provably received nothing
    TIMEOUT = "timeout"  # sent, and no whole reply within the time
    LOST = "lost"  # sent, and the connection broke


class History(StrEnum):
    """What came before this attempt of the same authorization."""

    FIRST = "first"
    REPEATED = "repeated"  # tried before, provably not executed
    IN_DOUBT = "in_doubt"  # an earlier attempt may have been executed (the taint rule)


class Alert(StrEnum):
    """Who is told beyond the counters."""

    OFF = "off"
    LOG = "log"
    PAGE = "page"  # log line at error level and the alert metric


class Mode(StrEnum):
    """Shadow: evaluated, counted and logged, not applied."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Heard:
    """One attempt as a rule sees it. status and body: of the reply, 0 and empty without one;
    network: CAIP-2; detail: the transport's own words where no reply came."""

    operation: Operation
    facilitator: str = ""
    profile: str = ""
    network: str = ""
    status: int = 0
    body: bytes = b""
    transport: Transport = Transport.REPLY
    history: History = History.FIRST
    detail: str = ""


class When(Section):
    """What must hold for a rule to match: every key given, and of a list any one entry."""

    profile: OneOrMore[Name] = ()
    facilitator: OneOrMore[Name] = ()
    network: OneOrMore[NetworkName] = ()
    operation: OneOrMore[Operation] = ()
    status: OneOrMore[Status] = ()
    body: Literal["any", "empty", "html", "json", "not_json"] = "any"
    reason: OneOrMore[ReasonText] = ()
    text: OneOrMore[TextGlob] = ()
    transport: OneOrMore[Transport] = ()
    history: OneOrMore[History] = ()


class ClassifyRule(Section):
    """What a reply means, where `when` holds."""

    name: Name
    when: When
    class_: Literal["transient", "settlement", "permanent", "unknown"]
    mode: Mode = Mode.ENFORCE
    health: Health | None = None
    failover: bool = False
    cure: Sentence = ""
    alert: Alert = Alert.OFF


class ClassifyDefault(Section):
    """What a reply means that nothing recognises."""

    settle: Literal["settlement"] = "settlement"
    verify: Literal["transient", "permanent", "unknown"] = "unknown"


class ClassifyPolicy(Section):
    """First match wins; then the facilitator's profile, then what is built in, then the default."""

    rules: tuple[ClassifyRule, ...] = Field(default=(), max_length=256)
    default: ClassifyDefault = ClassifyDefault()


class WhenClass(When):
    """As `when`, and the class that the reply was given."""

    class_: OneOrMore[Outcome] = ()


class Action(Section):
    """What is done about a reply; what is not given stays as the class has it.

    retry: the same facilitator again, within `retry:`. failover: another facilitator. circuit: what the
    reply says about the facilitator. watch: ask the chain. answer: `reason` hands on the failure,
    `pending` keeps the caller waiting for the chain.
    """

    retry: bool | None = None
    failover: bool | None = None
    circuit: Health | None = None
    watch: bool | None = None
    answer: Literal["reason", "pending"] | None = None
    alert: Alert | None = None


class ActRule(Action):
    """An action where `when` holds."""

    name: Name
    when: WhenClass
    mode: Mode = Mode.ENFORCE


class ActPolicy(Section):
    """First match wins, then the default, then what follows from the class."""

    rules: tuple[ActRule, ...] = Field(default=(), max_length=256)
    default: Action = Action()
