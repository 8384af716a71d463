"""The shape of one rule about free text. Which rules there are stands in `texts.py` and its neighbours."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Sign(StrEnum):
    """What a text shows, strongest first."""

    SENT = "sent"  # something was, or may have been, broadcast; or an earlier attempt landed
    TIME = "time"  # somebody stopped waiting, or a connection broke: nobody knows how far it got
    CATCH_ALL = "catch_all"  # "transaction failed": says nothing by itself
    BEFORE = "before"  # failed in a step that comes before the broadcast
    REFUSED = "refused"  # the payment or the request itself is not accepted
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TextRule:
    """name: bounded, becomes the verdict's rule; payload: the payment is at fault, not the facilitator;
    prior: an earlier attempt of the same identity may be the cause."""

    name: str
    sign: Sign
    pattern: re.Pattern[str]
    payload: bool = False
    prior: bool = False
    failover: bool = False
    cure: str = ""


def text_rule(
    name: str,
    sign: Sign,
    *patterns: str,
    payload: bool = False,
    prior: bool = False,
    failover: bool = False,
    cure: str = "",
) -> TextRule:
    return TextRule(name, sign, re.compile("|".join(patterns)), payload, prior, failover, cure)
