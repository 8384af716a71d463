"""The signature of an event, as https://www.standardwebhooks.com says. Pure."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
MAX_KEYS: Final = 4


def read_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a secret, several with blanks between while one is replaced. Raises ValueError."""
    cure = 'make one with `echo "whsec_$(openssl rand -base64 32)"`'
    parts = text.split()
    if not 1 <= len(parts) <= MAX_KEYS:
        raise ValueError(f"no secret, or more than {MAX_KEYS}; {cure}")
    return tuple(_key(part, cure) for part in parts)


def _key(text: str, cure: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except (ValueError, binascii.Error):
        key = b""
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(
            f"no webhook secret: {PREFIX} and base64 of {LEAST_BYTES} to {MOST_BYTES} bytes; {cure}"
        )
    return key


def signed_headers(
    id: str, timestamp: int, body: bytes, keys: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    """The three headers of one attempt. timestamp: Unix seconds of it; keys: each signs."""
    content = b"%b.%d.%b" % (id.encode(), timestamp, body)
    made = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)) for key in keys)
    return [
        (b"webhook-id", id.encode()),
        (b"webhook-timestamp", b"%d" % timestamp),
        (b"webhook-signature", b" ".join(b"v1," + one for one in made)),
    ]
