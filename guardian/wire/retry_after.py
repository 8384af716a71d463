"""The header Retry-After (RFC 9110 §10.2.3). Pure."""

import math
from email.utils import parsedate_to_datetime

MAX_TEXT = 64
"""An HTTP date has 29 characters."""


def read_retry_after(value: str, now: float) -> float | None:
    """Seconds from `now` (Unix time), at least 0; None where the value says nothing.

    Whole seconds or a date; fractions are seen in the wild. How long is too long is for the caller to say.
    """
    text = value.strip()[:MAX_TEXT]
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
