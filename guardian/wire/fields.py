"""Strict reading of single fields out of a JSON body. No I/O, no knowledge of schemes.

Only `BadPayment` leaves this module, whatever the bytes are: it names the dotted field, what stood
there (shortened, never a signature) and what to send instead. What may live here: parsing with its
limits, and readers for the few types that decide about money.
"""

import json
import re
from typing import Any

import orjson

from guardian.errors import BadPayment
from guardian.wire.names import Address, Nonce

Json = dict[str, Any]

MAX_BODY_BYTES = 512 * 1024
"""Real bodies have 1 to 3 kB; output schemas and wrapped signatures of smart wallets add tens of kB."""

MAX_TEXT = 256
"""Longest network, scheme, asset or account that is kept; real ones have at most 64 characters."""

MAX_UINT256 = 2**256 - 1
FOUND_CHARS = 80

_UINT = re.compile(r"[0-9]{1,78}")  # 2**256 has 78 digits; `int` alone would take "1_0", "+1" and "١"
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_BYTES32 = re.compile(r"0x[0-9a-f]{64}")
_SECRET = re.compile(r"[0-9A-Za-z+/=_-]{67,}")  # longer than a hash or an address: may be signed bytes

_UNGUARDED = frozenset({"extensions", "resource", "outputSchema"})
"""Parts that never decide about money; keys may repeat there, the facilitator gets them as they are."""

_SPELLINGS = frozenset(
    (
        *("x402Version", "paymentPayload", "paymentRequirements", "payload", "accepted", "resource"),
        *("extensions", "scheme", "network", "asset", "amount", "maxAmountRequired", "payTo"),
        *("maxTimeoutSeconds", "extra", "description", "mimeType", "outputSchema", "signature"),
        *("authorization", "from", "to", "value", "validAfter", "validBefore", "nonce"),
    )
)
"""How the SDKs spell what nearly every body has; of all keys no two differ in case only."""


def parse_body(body: bytes) -> Json:
    """The body as an object without repeated keys in what matters for money; raises BadPayment."""
    if len(body) > MAX_BODY_BYTES:
        raise BadPayment("body", f"{len(body)} bytes", f"send at most {MAX_BODY_BYTES} bytes")
    try:
        root = orjson.loads(body)
        again = orjson.dumps(root)
    except (ValueError, TypeError) as exc:  # dumps refuses nesting deeper than 254 with a TypeError
        raise BadPayment("body", _shortened(str(exc)), "send a JSON object in UTF-8") from exc
    if type(root) is not dict:
        raise BadPayment("body", found(root), "send a JSON object")
    # Parsers disagree about which of two equal keys counts, and orjson keeps the last: the guardian
    # would watch one payment while the facilitator settles another. Without a backslash every quote
    # is structural, so equal numbers of quotes prove that no key was dropped.
    if b"\\" in body or body.count(b'"') != again.count(b'"'):
        _refuse_repeated_keys(body)
    return root


def refuse_twins(parent: Json, path: str) -> None:
    """Raise BadPayment for keys that differ in case only: Go's JSON decoder takes either for the other."""
    if parent.keys() <= _SPELLINGS or len(set(map(str.casefold, parent))) == len(parent):
        return
    seen: set[str] = set()
    for key in parent:
        if key.casefold() in seen:
            raise BadPayment(_dotted(path, key), "the same key in another case", "send each key once")
        seen.add(key.casefold())


def refuse_misspelt(parent: Json, names: frozenset[str], path: str) -> None:
    """Raise BadPayment for a key that is one of these names in another case: what is passed over here, a
    decoder that does not look at case settles."""
    for key in parent.keys() - names:
        meant = next((name for name in names if name.casefold() == key.casefold()), None)
        if meant is not None:
            raise BadPayment(_dotted(path, key), "a key in another case", f"write it as {meant}")


def object_at(parent: Json, key: str, path: str) -> Json:
    """An object. path: of the parent, with a dot at its end, as in all of these; all raise BadPayment."""
    value = parent.get(key)
    if type(value) is not dict:
        raise BadPayment(f"{path}{key}", found(value), "send a JSON object")
    return value


def text_at(parent: Json, key: str, path: str, cure: str) -> str:
    """A text of 1 to MAX_TEXT characters. cure: what to send instead."""
    value = parent.get(key)
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT:
        raise BadPayment(f"{path}{key}", found(value), cure)
    return value


def uint_at(parent: Json, key: str, path: str) -> int:
    """A uint256 as a decimal string or a JSON integer (those over 64 bits must be strings)."""
    number = uint_of(parent.get(key))
    if number is None:
        raise BadPayment(
            f"{path}{key}",
            found(parent.get(key)),
            "send a whole number from 0 to 2^256-1 as a decimal string",
        )
    return number


def uint_of(value: object) -> int | None:
    """The uint256 in a value, None where there is none."""
    if type(value) is int:
        return value if value >= 0 else None  # orjson's integers have 64 bits at most
    if type(value) is str and _UINT.fullmatch(value):
        number = int(value)
        return number if number <= MAX_UINT256 else None
    return None


def address_at(parent: Json, key: str, path: str) -> Address:
    """An EVM address of 20 bytes, in lower case."""
    value = parent.get(key)
    if type(value) is str:
        lowered = value.lower()
        if _ADDRESS.fullmatch(lowered):
            return Address(lowered)
    raise BadPayment(f"{path}{key}", found(value), "send an address: 0x and 40 hex digits")


def bytes32_at(parent: Json, key: str, path: str) -> Nonce:
    """32 bytes as 0x and 64 hex digits, in lower case."""
    value = parent.get(key)
    if type(value) is str:
        lowered = value.lower()
        if _BYTES32.fullmatch(lowered):
            return Nonce(lowered)
    raise BadPayment(f"{path}{key}", found(value), "send 32 bytes: 0x and 64 hex digits")


def is_address(value: object) -> bool:
    """Whether it is an EVM address, in any case."""
    return type(value) is str and _ADDRESS.fullmatch(value.lower()) is not None


def text_of(value: object) -> str:
    """A short text, "" for everything else."""
    return value if type(value) is str and len(value) <= MAX_TEXT else ""


def account_of(value: object) -> Address:
    """An account as sent, EVM in lower case, "" for what is none."""
    text = text_of(value)
    return Address(text.lower() if text[:2] in ("0x", "0X") else text)


def found(value: object) -> str:
    """What stood there, in at most 80 characters and without anything that may be a signature."""
    if value is None:
        return "nothing"
    if type(value) is dict:
        return "an object"
    if type(value) is list:
        return "a list"
    if type(value) is str:
        if _SECRET.search(value):
            return f"a text of {len(value)} characters"
        return _shortened(ascii(value[:FOUND_CHARS]))
    return _shortened(f"{value} ({type(value).__name__})")


def _shortened(text: str) -> str:
    return text if len(text) <= FOUND_CHARS else text[: FOUND_CHARS - 1] + "…"


class _Pairs(dict[str, Any]):
    """An object that remembers a key that stood in it twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: str | None = None
        if len(self) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    self.repeated = name
                seen.add(name)


def _refuse_repeated_keys(body: bytes) -> None:
    """The exact and slow check; numbers stay text so that no size limit of `int` is met."""
    try:
        root = json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as exc:
        raise BadPayment("body", "JSON that parsers read differently", "send plain JSON in UTF-8") from exc
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, _Pairs):
            if value.repeated is not None:
                raise BadPayment(_dotted(path, value.repeated), "the same key twice", "send each key once")
            waiting += [(_dotted(path, key), item) for key, item in value.items() if key not in _UNGUARDED]
        elif isinstance(value, list):
            waiting += [(path, item) for item in value]


def _dotted(path: str, key: str) -> str:
    """The path of a key that the sender chose: printable, and as short as everything shown."""
    name = ascii(key[:FOUND_CHARS])[1:-1]
    return _shortened(f"{path}.{name}" if path else name)
