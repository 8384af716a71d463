"""The shape of one rule about free text. Which rules there are stands in `reading.py` and its neighbours."""

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
    """A rule of which any one pattern has to be found."""
    return TextRule(name, sign, any_of("|".join(patterns)), payload, prior, failover, cure)


def any_of(pattern: str) -> re.Pattern[str]:
    """The alternatives of a pattern, those that begin at a word under one `\\b`: it is tried once a place."""
    parts = _alternatives(pattern)
    words = [part.removeprefix(r"\b") for part in parts if part.startswith(r"\b")]
    others = [part for part in parts if not part.startswith(r"\b")]
    return re.compile("|".join([*([rf"\b(?:{'|'.join(words)})"] if words else []), *others]))


def _alternatives(pattern: str) -> list[str]:
    """The pattern cut at every `|` that stands in no group and in no set."""
    parts, depth, in_set, at = [""], 0, False, 0
    while at < len(pattern):
        sign = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        at += len(sign)
        if in_set:
            in_set = sign != "]"
        else:
            in_set = sign == "["
            depth += (sign == "(") - (sign == ")")
            if sign == "|" and not depth:
                parts.append("")
                continue
        parts[-1] += sign
    return parts
