"""What a reply says, before anybody judges it: its shape, listed reasons, every text, a hash. Pure.

`guardian.wire.reply` gives one reason and one message to pass on; this keeps every string of the body,
because a sign of a broadcast counts wherever it stands. Tolerant and bounded; nothing here raises.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

import msgspec
import orjson
from msgspec.structs import replace

from guardian.settlement.codes import read_code
from guardian.settlement.reasons import ERROR_TYPES, REASONS
from guardian.settlement.texts.before import ESTIMATION
from guardian.settlement.texts.reading import MAX_TEXT, plain, read_text
from guardian.settlement.verdict import IN_DOUBT, Operation
from guardian.wire.reply import EVM_HASH, uncapitalized, without_arguments

MAX_BODY = 262_144
MAX_VALUES = 2_048
"""Bytes and values looked at. A body with more is no error report: its text is too long to be judged,
which leaves a settle in doubt."""

NODE_CODES = frozenset(range(-32_700, -32_599)) | {-32_005, -32_007, -32_016, -32_029, -32_090}
"""Codes of JSON-RPC itself, and those by which nodes limit traffic: a node speaks, not the facilitator."""

MAX_PAGE = 8_192
"""Characters of a page that are read."""

WRAPPING_REASONS = frozenset({"invalid_payload", "invalid_request"})
"""Reasons that an API puts round another error (CDP: `invalid_payload` with "unable to estimate gas")."""

MAX_SHOWN = 500
"""Characters of a facilitator's text that go on into records, logs and answers."""

_HASH_KEYS = frozenset({"transaction", "transactionHash", "transaction_hash", "txHash", "tx_hash"})
_SILENT_KEYS = frozenset(
    {
        "payer",
        "network",
        "asset",
        "payTo",
        "from",
        "to",
        "nonce",
        "signature",
        "salt",
        "channelId",
        "paymentId",
    }
    | {"correlationId", "errorLink", "requestId", "timestamp", "path", "url", "input", "resource"}
)
"""Keys whose strings are names, not words: they would be mistaken for a hash or a sign."""

_REQUEST_PLACES = ("body", "query", "header", "path", "cookie")

_BASE58_SIGNATURE = re.compile(r"(?<![0-9A-Za-z])[1-9A-HJ-NP-Za-km-z]{86,88}(?![0-9A-Za-z])")
_NO_HASH = re.compile(r"(?:0x0*|null|none|undefined|n/a|nil)?", re.IGNORECASE)
_TOKEN = re.compile(r"(?<![a-z0-9])(?<!code=)[a-z][a-z0-9]{0,30}(?:_[a-z0-9]{1,30}){1,15}(?![a-z0-9])")
_NAME = re.compile(_TOKEN.pattern, re.IGNORECASE)
_NUMBERED = re.compile(r"^(\w{1,80}) \(ref: [\w-]{1,40}\)$")  # a code, and where to find it in a log
_TAGS = re.compile(r"<[^<>]{0,1000}>")
_OF_PAYMENT = re.compile(r"transaction|payment|settle|authorization|\bnonce\b|\btx\b|0x", re.IGNORECASE)
_WRAPPED = re.compile(r"\((\d{3})\):? ?(\{.*)", re.DOTALL)
_SECRET = re.compile(r"(?:0x)?[0-9a-fA-F]{65,}|\beyJ[\w.\-]{16,}|\b[Bb]earer\s+\S+")


class Shape(Enum):
    """What kind of body it is."""

    EMPTY = auto()
    HTML = auto()
    OBJECT = auto()
    VALIDATION = auto()  # a web framework's list of what is wrong with the request
    OTHER = auto()  # plain text, or JSON that is no object


class Saying(msgspec.Struct, frozen=True):
    """listed: the listed reason that the body names, the most doubtful one where it names several;
    code: one that `codes.py` reads; text: every string of the body, listed reasons and the code taken out;
    transaction: a hash, wherever it stands;
    error_type: a generic one of `ERROR_TYPES`; wrapped: another facilitator reply quoted in this one."""

    shape: Shape
    listed: str = ""
    code: str = ""
    text: str = ""
    transaction: str = ""
    error_type: str = ""
    wrapped: tuple[int, bytes] | None = None


def read_saying(operation: Operation, body: bytes) -> Saying:
    """What a body says."""
    start = body[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start and not body.strip():
        return Saying(Shape.EMPTY)
    text = body[:MAX_BODY].decode("utf-8", "replace")
    if start.startswith(b"<"):
        return Saying(Shape.HTML, text=_words_of_page(text), transaction=_hash_in(text))
    try:
        document = orjson.loads(body)
    except ValueError:
        if start.startswith((b"{", b"[")) and not text.rstrip().endswith(("}", "]")):
            return Saying(Shape.OTHER, transaction=_hash_in(text))  # cut off: the rest could say anything
        return _read_plain(operation, text)
    if isinstance(document, str):
        return _read_plain(operation, document)
    if not isinstance(document, dict):
        return _read_texts(operation, Shape.OTHER, [said for _, said in _strings(document)])
    return _read_object(operation, uncapitalized(document))


def named(transaction: str) -> str:
    """A reported transaction id, or "" where the report is a place-holder for none."""
    return "" if _NO_HASH.fullmatch(transaction.strip()) else transaction.strip()


def shown(text: str) -> str:
    """A facilitator's text as it may be logged and handed on: short, without signatures and tokens."""
    text = _SECRET.sub("…", text[: 8 * MAX_SHOWN])
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _read_plain(operation: Operation, text: str) -> Saying:
    """What a body says that is a text, or a code and nothing else."""
    if _TOKEN.fullmatch(code := text.strip()) and code not in REASONS and read_code(code):
        return Saying(Shape.OTHER, code=code)
    return _read_texts(operation, Shape.OTHER, [text])


def _read_object(operation: Operation, document: dict[str, object]) -> Saying:
    strings = _strings(document)
    error_type = document.get("errorType")
    error_type = error_type if isinstance(error_type, str) and error_type in ERROR_TYPES else ""
    texts = [
        _NUMBERED.sub(r"\1", text)
        for key, text in strings
        if key not in _SILENT_KEYS | _HASH_KEYS and key != "errorType"
    ]
    reported = next((text for key, text in strings if key in _HASH_KEYS and named(text)), "")
    if not error_type:
        texts += [text for key, text in strings if key == "errorType"]
    shape = Shape.VALIDATION if _lists_faults(document.get("detail")) else Shape.OBJECT
    said = _read_texts(operation, shape, texts, reported, error_type)
    code = _code_of(operation, document, texts)
    if not code:
        return said
    rest = said.text.replace(code, " ").replace(plain(code), " ")  # some say it twice, once with blanks
    return replace(said, code=code, text=rest)


def _lists_faults(detail: object) -> bool:
    """Whether these are faults of a request's parts, as FastAPI tells them before it calls anybody; those of
    an answer have `response` for their place. https://fastapi.tiangolo.com/tutorial/handling-errors/"""
    faults = detail if isinstance(detail, list) else []
    places = [fault.get("loc") if isinstance(fault, dict) else None for fault in faults[:MAX_VALUES]]
    return bool(places) and all(isinstance(at, list) and at and at[0] in _REQUEST_PLACES for at in places)


def _code_of(operation: Operation, document: dict[str, object], texts: list[str]) -> str:
    """The code that answers the question: the reason of an x402 reply, where there is one, or any other."""
    keys = ("errorReason", "error_reason") if operation is Operation.SETTLE else ("invalidReason",)
    own = [said for key in keys if isinstance(said := document.get(key), str) and said]
    codes = (text for text in own or texts if text.lower() not in REASONS and read_code(text))
    return next(codes, "")


def _read_texts(
    operation: Operation, shape: Shape, texts: list[str], reported: str = "", error_type: str = ""
) -> Saying:
    text = " | ".join(texts)
    tokens = [token for token in _TOKEN.findall(text[:MAX_TEXT].lower()) if token in REASONS]
    if tokens and len(text) <= MAX_TEXT:
        text = _NAME.sub(_blank_listed, text)
    if read_text(text) is ESTIMATION:
        # The API's own word for "it did not work" is no reason of its own.
        tokens = [token for token in tokens if token not in WRAPPING_REASONS]
    return Saying(
        shape,
        listed=_most_doubtful(operation, tokens),
        text=text,
        transaction=reported or _hash_in(text),
        error_type=error_type,
        wrapped=_wrapped_in(texts),
    )


def _blank_listed(found: re.Match[str]) -> str:
    return " " if found.group().lower() in REASONS else found.group()


def _words_of_page(text: str) -> str:
    """What a page says, if it speaks of a payment: pages of web servers say much about themselves."""
    words = _TAGS.sub(" ", text[:MAX_PAGE])
    return words if _OF_PAYMENT.search(words) else ""


def _strings(document: object) -> list[tuple[str, str]]:
    """Every string with the key it stands under, in order."""
    strings: list[tuple[str, str]] = []
    left: list[tuple[str, object]] = [("", document)]
    for _ in range(MAX_VALUES):
        if not left:
            return strings
        key, value = left.pop()
        if isinstance(value, str):
            strings.append((key, value))
        elif key == "code" and type(value) is int and value in NODE_CODES:
            strings.append((key, "rpc error"))
        elif key == "InstructionError":  # Solana's, whose strings alone read like a refusal
            strings.append((key, "instruction error"))
        elif isinstance(value, dict):
            left.extend((name, child) for name, child in reversed(value.items()))
        elif isinstance(value, list):
            left.extend((key, child) for child in reversed(value))
    return [*strings, ("", " " * MAX_BODY)]


def _most_doubtful(operation: Operation, tokens: list[str]) -> str:
    doubtful = (token for token in tokens if REASONS[token].outcome(operation) in IN_DOUBT)
    return next(doubtful, tokens[0] if tokens else "")


def _hash_in(text: str) -> str:
    text = without_arguments(text)  # of a call: the payment's nonce and signature
    found = EVM_HASH.search(text) or _BASE58_SIGNATURE.search(text)
    return named(found.group()) if found else ""


def _wrapped_in(texts: Iterable[str]) -> tuple[int, bytes] | None:
    """`Facilitator settle failed (500): {json}`, as a Python SDK in between writes it."""
    found = next((match for text in texts if (match := _WRAPPED.search(text))), None)
    return (int(found.group(1)), found.group(2).encode("utf-8", "replace")) if found else None
