"""JSON in headers, as x402 carries it: standard base64, one header of a name. No I/O.

Strict, because two readers must not find two payments in one header: Python's decoder drops characters
that it does not know, JavaScript's takes the URL alphabet too, and servers differ over repeated headers.
"""

import base64
import re
from collections.abc import Sequence

from guardian.errors import BadPayment
from guardian.wire.fields import MAX_BODY_BYTES

RawHeaders = Sequence[tuple[bytes, bytes]]

MAX_CHARS = (MAX_BODY_BYTES + 2) // 3 * 4

_BASE64 = re.compile(rb"[A-Za-z0-9+/]++={0,2}")


def header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The value of a header (name in lower case) without blanks around it. Raises BadPayment for a second."""
    values = [value.strip(b" \t") for found, value in headers if found.lower() == name]
    if len(values) > 1:
        raise BadPayment(shown(name), f"{len(values)} headers", "send the header once")
    return values[0] if values else None


def decoded(value: bytes, name: bytes) -> bytes:
    """The bytes in a header's base64; padding may be left out. Raises BadPayment."""
    if len(value) > MAX_CHARS:
        raise BadPayment(shown(name), f"{len(value)} characters", f"send at most {MAX_CHARS} characters")
    bare = value.rstrip(b"=")
    if not _BASE64.fullmatch(value) or len(bare) % 4 == 1:
        raise BadPayment(shown(name), f"a text of {len(value)} characters", "send JSON in standard base64")
    return base64.b64decode(bare + b"=" * (-len(bare) % 4))


def encoded(data: bytes) -> bytes:
    """Standard base64 with padding."""
    return base64.b64encode(data)


def shown(name: bytes) -> str:
    """A header's name as the specification writes it."""
    return name.decode("ascii").upper()
