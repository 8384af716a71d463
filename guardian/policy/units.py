"""Durations and sizes as people write them: a number and its unit. No I/O.

A bare number is an error: `hold: 25` leaves open whether somebody meant milliseconds. The errors are
ValueErrors with the cure in them; whoever knows the place in the file adds it.
"""

import re
from typing import Final

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
MAX_DURATION_S: Final = 3650 * 86400.0  # ten years: beyond it somebody mistook the unit
DURATION_PATTERN: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d)$"
SIZE_PATTERN: Final = r"^[0-9]{1,12}(B|KiB|MiB|GiB)$"

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_SHOWN_CHARS = 40


def parse_duration(value: object) -> float:
    """Seconds from `500ms`, `25s`, `1.5s`, `2m`, `1h` or `90d`; raises ValueError."""
    number, unit = _split(value, SECONDS, "25s, 500ms or 2m")
    seconds = float(number) * SECONDS[unit]
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{show(value)} is more than ten years; check the unit")
    return round(seconds, 9)


def parse_size(value: object) -> int:
    """Bytes from `512KiB` or `1MiB`; raises ValueError."""
    number, unit = _split(value, BYTES, "512KiB or 1MiB")
    if "." in number:
        raise ValueError(f"{show(value)} has a fraction; write a whole number and a smaller unit")
    return int(number) * BYTES[unit]


def write_duration(seconds: float) -> str:
    """The writing that people use, which reads back as the same duration: 60s, but 90d."""
    for unit, least_s in (("d", 86400), ("h", 3600), ("m", 600)):
        whole = seconds / SECONDS[unit]
        if seconds >= least_s and whole == int(whole):
            return f"{int(whole)}{unit}"
    if 0 < seconds < 1:
        return f"{round(seconds * 1000, 6):g}ms"
    return f"{round(seconds, 6):.12g}s"


def write_size(count: int) -> str:
    """The largest unit that leaves no fraction."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % BYTES[unit] == 0:
            return f"{count // BYTES[unit]}{unit}"
    return f"{count}B"


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


def _split(value: object, units: dict[str, float] | dict[str, int], examples: str) -> tuple[str, str]:
    if isinstance(value, bool | dict | list) or value is None:
        raise ValueError(f"{show(value)} is not a number with its unit; write it like {examples}")
    text = value.strip() if isinstance(value, str) else show(value).strip("'")
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{show(value)} is not a number with its unit; write it like {examples}")
    unit = text[match.end() :].strip()
    if not unit:
        example = f"{match[0]}{'s' if 's' in units else 'KiB'}"
        raise ValueError(f"{show(value)} has no unit; write {example} if that is what you mean")
    if unit not in units:
        raise ValueError(f"{show(value)} has the unknown unit {show(unit)}; use one of {', '.join(units)}")
    return match[0], unit
