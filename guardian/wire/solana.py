"""The message inside a Solana transaction: what was signed, without the signatures. No I/O.

The layout is the one of https://solana.com/docs/core/transactions: signatures, then the message,
legacy or version 0. Counts are "compact-u16". Only lengths are read, nothing is interpreted.
"""

import base64
import binascii
import hashlib

_SIGNATURE_BYTES = 64
_KEY_BYTES = 32
MAX_TRANSACTION_CHARS = 4096
"""A transaction fits one packet of 1232 bytes, which is 1644 characters of base64."""


class NotCanonical(ValueError):
    """A transaction that decoders read although it is not written the one right way."""


def signed_parts(transaction: str) -> tuple[str, str] | None:
    """(sha256 hex of the message, sha256 hex of the whole) of a base64 transaction; None if it is none.

    Raises NotCanonical where lax base64 decoders or a decoder that ignores trailing bytes would still
    find a transaction: one message must not have many spellings, each looking like a new payment.
    """
    if len(transaction) > MAX_TRANSACTION_CHARS or not transaction.isascii():
        return None
    standard = transaction.translate(_URL_SAFE).rstrip("=")
    try:
        raw = base64.b64decode(standard + "===")  # lax on purpose, like the SDKs
        start, end = _message_span(raw)
    except (binascii.Error, IndexError):
        return None
    if end != len(raw) or base64.b64encode(raw).decode() != transaction:
        raise NotCanonical
    return hashlib.sha256(raw[start:end]).hexdigest(), hashlib.sha256(raw).hexdigest()


_URL_SAFE = str.maketrans("-_", "+/")


def _message_span(raw: bytes) -> tuple[int, int]:
    """Where the message starts and ends; IndexError where the bytes end before it does."""
    count, at = _compact_u16(raw, 0)
    start = at = at + count * _SIGNATURE_BYTES
    versioned = raw[at] & 0x80 != 0
    if versioned and raw[at] != 0x80:
        raise IndexError("unknown message version")
    at += 3 + versioned
    at = _skip_vector(raw, at, _KEY_BYTES) + _KEY_BYTES  # account keys, recent blockhash
    instructions, at = _compact_u16(raw, at)
    for _ in range(instructions):
        at = _skip_vector(raw, at + 1, 1)  # program index, account indexes
        at = _skip_vector(raw, at, 1)  # data
    if versioned:
        tables, at = _compact_u16(raw, at)
        for _ in range(tables):
            at = _skip_vector(raw, at + _KEY_BYTES, 1)  # writable
            at = _skip_vector(raw, at, 1)  # read-only
    if at > len(raw):
        raise IndexError("the message is cut off")
    return start, at


def _skip_vector(raw: bytes, at: int, item_bytes: int) -> int:
    count, at = _compact_u16(raw, at)
    return at + count * item_bytes


def _compact_u16(raw: bytes, at: int) -> tuple[int, int]:
    """(value, next position). Decoders refuse a longer spelling than needed, so does this."""
    value = 0
    for place in range(3):
        byte = raw[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value > 0xFFFF or (byte == 0 and place > 0):
                break
            return value, at + place + 1
    raise IndexError("not a compact-u16")
