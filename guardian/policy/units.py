"""Durations, amounts and paces as people write them: a number and its unit. No I/O.

A bare number is an error: `hold: 25` leaves open whether somebody meant milliseconds. The errors are
ValueErrors with the cure in them; whoever knows the place in the file adds it.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_DURATION_S: Final = 3650 * 86400.0  # ten years: beyond it somebody mistook the unit

DELAY_PATTERN: Final = r"^\s*[0-9]{1,12}(\.[0-9]{1,6})?\s*(ms|s|m|h|d)\s*$"
DURATION_PATTERN: Final = DELAY_PATTERN.replace("^", r"^(?!\s*0+(\.0+)?\s*[a-z])")  # more than nothing
AMOUNT_PATTERN: Final = r"^\s*(\$ ?[0-9]{1,12}(\.[0-9]{1,18})?|[0-9]{1,78} *atomic)\s*$"
TIMES_PATTERN: Final = r"^\s*0*[1-9][0-9]{0,3}(\.[0-9]{1,3})? ?x\s*$"
PACE_PATTERN: Final = r"^\s*0*[1-9][0-9]{0,6} *(per|/) *(s|m|h)\s*$"
"""What an editor takes for one, by the JSON Schema: all that is read here, and little more."""

MAX_ATOMIC: Final = 2**256 - 1  # what a token contract can count

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?(?!\.?[0-9])", re.ASCII)
_DIGIT = re.compile("[0-9]", re.ASCII)
_DOLLARS = re.compile(r"\$ ?([0-9]{1,12}(?:\.[0-9]{1,18})?)", re.ASCII)
_ATOMIC = re.compile(r"([0-9]{1,78}) *atomic", re.ASCII)
_TIMES = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?) ?x", re.ASCII)
_PACE = re.compile(r"([0-9]{1,7}) *(?:per|/) *([a-z]+)", re.ASCII)
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of a token: either in its atomic units, or in dollars for tokens that are worth one."""

    atomic: int | None = None
    dollars: Decimal | None = None

    def in_atomic(self, decimals: int | None) -> int | None:
        """In atomic units, rounded up. decimals: of a dollar token, None for any other.

        None: this amount says nothing about that token.
        """
        if self.atomic is not None:
            return self.atomic
        if self.dollars is None or decimals is None:
            return None
        exact = self.dollars.scaleb(decimals)
        whole = int(exact)
        return whole + (exact > whole)

    def exceeds(self, other: "Amount") -> bool:
        """Whether it is more; never where one counts dollars and the other atomic units."""
        if self.atomic is not None and other.atomic is not None:
            return self.atomic > other.atomic
        return self.dollars is not None and other.dollars is not None and self.dollars > other.dollars


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `count` in any `per_s` seconds."""

    count: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Times:
    """How many times as much: exact, because it is held against amounts."""

    factor: Decimal

    @classmethod
    def of(cls, factor: int) -> "Times":
        """A whole number of times."""
        return cls(Decimal(factor))


def parse_times(value: object) -> Times:
    """A factor from `2x` or `1.5x`, 1 or more; raises ValueError."""
    cure = "write it like 2x or 1.5x"
    match = _TIMES.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{show(value)} is not a number of times; {cure}")
    if (factor := Decimal(match[1])) < 1:
        raise ValueError(f"{show(value)} is less than 1x; {cure}")
    return Times(factor)


def write_times(times: Times) -> str:
    """The writing that reads back as the same factor."""
    return f"{times.factor:f}x"


def parse_amount(value: object) -> Amount:
    """An amount from `$0.001` or `1000 atomic`; raises ValueError."""
    cure = "write dollars like $0.001, or the token's smallest unit like 1000 atomic"
    text = value.strip() if isinstance(value, str) else ""
    if dollars := _DOLLARS.fullmatch(text):
        return Amount(dollars=Decimal(dollars[1]))
    if atomic := _ATOMIC.fullmatch(text):
        if int(atomic[1]) > MAX_ATOMIC:
            raise ValueError(f"{show(value)} is more than any token can count; check the number")
        return Amount(atomic=int(atomic[1]))
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{show(value)} has no unit; {cure}")
    raise ValueError(f"{show(value)} is not an amount; {cure}")


def write_amount(amount: Amount) -> str:
    """The writing that reads back as the same amount."""
    return f"{amount.atomic} atomic" if amount.dollars is None else f"${amount.dollars:f}"


def parse_pace(value: object) -> Pace:
    """A pace from `50 per s`, `600 per m` or `1000 per h`; raises ValueError."""
    cure = "write it like 50 per s, 600 per m or 1000 per h"
    match = _PACE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{show(value)} is not a pace; {cure}")
    if match[2] not in ("s", "m", "h"):
        raise ValueError(f"{show(value)} has the unknown unit {show(match[2])}; {cure}")
    if int(match[1]) == 0:
        raise ValueError(f"{show(value)} would let nothing pass; write 1 or more")
    return Pace(int(match[1]), SECONDS[match[2]])


def write_pace(pace: Pace) -> str:
    """The writing that reads back as the same pace."""
    unit = next((unit for unit in ("s", "m", "h") if SECONDS[unit] == pace.per_s), None)
    return f"{pace.count} per {unit or f'{pace.per_s:g} s'}"


def parse_duration(value: object) -> float:
    """Seconds from `500ms`, `25s`, `1.5s`, `2m`, `1h` or `90d`; raises ValueError."""
    number, unit = _split(value)
    seconds = float(number) * SECONDS[unit]
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{show(value)} is more than ten years; check the unit")
    return round(seconds, 9)


def write_duration(seconds: float) -> str:
    """The writing that people use, which reads back as the same duration: 60s, but 90d."""
    for unit, least_s in (("d", 86400), ("h", 3600), ("m", 600)):
        whole = seconds / SECONDS[unit]
        if seconds >= least_s and whole == int(whole):
            return f"{int(whole)}{unit}"
    if 0 < seconds < 1:
        return f"{round(seconds * 1000, 6):g}ms"
    return f"{round(seconds, 6):.12g}s"


def show(value: object) -> str:
    """A value as an error may print it: short, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    try:
        text = value if isinstance(value, str) else str(value)
    except ValueError:  # an int with more digits than Python prints
        return "a huge number"
    return repr(text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…")


def _split(value: object) -> tuple[str, str]:
    cure = "write it like 25s, 500ms or 2m"
    if isinstance(value, bool | dict | list) or value is None:
        raise ValueError(f"{show(value)} is not a number with its unit; {cure}")
    text = value.strip() if isinstance(value, str) else show(value).strip("'")
    match = _NUMBER.match(text)
    if match is None and _DIGIT.match(text):
        raise ValueError(f"{show(value)} has more digits than 12, and 6 after the point; {cure}")
    if match is None:
        raise ValueError(f"{show(value)} is not a number with its unit; {cure}")
    unit = text[match.end() :].strip()
    if not unit:
        raise ValueError(f"{show(value)} has no unit; write {match[0]}s if that is what you mean")
    if unit not in SECONDS:
        raise ValueError(f"{show(value)} has the unknown unit {show(unit)}; use one of {', '.join(SECONDS)}")
    return match[0], unit
