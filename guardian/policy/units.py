"""Durations as people write them: a number and its unit. No I/O.

A bare number is an error: `hold: 25` leaves open whether somebody meant milliseconds. The errors are
ValueErrors with the cure in them; whoever knows the place in the file adds it.
"""

import re
from typing import Final

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_DURATION_S: Final = 3650 * 86400.0  # ten years: beyond it somebody mistook the unit
DURATION_PATTERN: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d)$"

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_SHOWN_CHARS = 40


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
    if match is None:
        raise ValueError(f"{show(value)} is not a number with its unit; {cure}")
    unit = text[match.end() :].strip()
    if not unit:
        raise ValueError(f"{show(value)} has no unit; write {match[0]}s if that is what you mean")
    if unit not in SECONDS:
        raise ValueError(f"{show(value)} has the unknown unit {show(unit)}; use one of {', '.join(SECONDS)}")
    return match[0], unit
