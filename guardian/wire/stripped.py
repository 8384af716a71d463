"""A settle body without anything that could be spent: for evidence. No I/O.

What may stay is a positive list: the fields that were signed. Whatever else a payload carries (signatures,
signed transactions, what nobody knows yet) is replaced by its sha256.
"""

import hashlib
from typing import Any, Final

import orjson

from guardian.wire.fields import Json

MARK: Final = b"\x00stripped\n"
"""No JSON begins with it, so no caller can write a body that only looks stripped."""

_SIGNED: Final = ("authorization", "permit2Authorization")
_LEAF: Final = str | int | float | bool | None
_OPTIONS: Final = orjson.OPT_SORT_KEYS


def stripped(body: bytes) -> bytes:
    """The same payment, as evidence only; again changes nothing. b"" for what cannot be read."""
    if body.startswith(MARK):
        return body
    try:
        root = orjson.loads(body)
        shown = shown_payment(root)
        about = {"body": {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}}
        return MARK + orjson.dumps(shown | about, option=_OPTIONS)
    except (ValueError, TypeError):
        return b""


def read_stripped(body: bytes) -> Json:
    """What `stripped` left: the payment's parts, and `body`, the hash and length of what was sent."""
    found = stripped(body).removeprefix(MARK)
    return dict(orjson.loads(found)) if found else {}


def shown_payment(root: Any) -> Json:
    """The parts of a settle body that may be shown; raises TypeError for what is none."""
    if type(root) is not dict:
        raise TypeError("no settle body")
    payload = root.get("paymentPayload")
    if type(payload) is not dict:
        raise TypeError("no payment in it")
    inside = payload.get("payload")
    signed = inside if type(inside) is dict else {}
    return {
        "x402Version": _leaf(root.get("x402Version", payload.get("x402Version"))),
        "scheme": _leaf(payload.get("scheme")),
        "network": _leaf(payload.get("network")),
        "resource": payload.get("resource"),
        "requirements": root.get("paymentRequirements") or payload.get("accepted"),
        "authorization": {name: _scalars(signed[name]) for name in _SIGNED if name in signed},
        "withheld": {name: digest(value) for name, value in signed.items() if name not in _SIGNED},
    }


def digest(value: object) -> str:
    """sha256, in hex, of a text's bytes, or of a value as JSON."""
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else orjson.dumps(value, option=_OPTIONS)
    return hashlib.sha256(raw).hexdigest()


def _scalars(found: Any) -> Any:
    """What was signed are addresses, numbers and times, at most two deep; longer texts are no such thing."""
    if type(found) is dict:
        return {str(name): _scalars(value) for name, value in found.items()}
    return _leaf(found)


def _leaf(found: Any) -> Any:
    if isinstance(found, str) and len(found) > 80:
        return {"sha256": digest(found)}
    return found if isinstance(found, _LEAF) else {"sha256": digest(found)}
