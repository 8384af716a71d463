"""What facilitators answer, and what the guardian answers: replies of /verify and /settle. No I/O.

Reading is tolerant: no facilitator's dialect raises. Nothing here judges an outcome; `well_formed`
only says that the reply is a JSON object that answers the question with a boolean.
Writing gives bodies with every key that an SDK of either version demands.
"""

import re
from typing import Any

import msgspec
import orjson

MAX_TEXT = 1000
"""Reasons and messages end up in records and answers; a page of HTML or a stack trace does not."""

MAX_SEARCHED = 64 * 1024
"""How much of a reply is searched for a nested body or a hash."""

MAX_PAGE = 4 * 1024
"""How much of a page is stripped of its tags: the pattern takes quadratic time on hostile ones."""

EVM_HASH = re.compile(r"(?<![0-9a-zA-Z])0x[0-9a-fA-F]{64}(?![0-9a-zA-Z])")
_NOT_A_TRANSACTION = re.compile(
    r"(nonce|channel|blockhash|block hash|salt)\W{0,8}\w{0,3}\W{0,3}$", re.IGNORECASE
)
_CALLED_A_TRANSACTION = re.compile(
    r"(transaction|\btx|\bhash|broadcast|submitted|\bsent\b|receipt)\b[^0]{0,24}$", re.IGNORECASE
)
# Of the call that failed, as viem prints them: set in by as many blanks as the function's name is long.
_ARGUMENTS = re.compile(r"\bargs: {0,160}\([^()]{0,2000}\)")
_REASON = re.compile(r"[a-z][a-z0-9_]*")
_LEADING_REASON = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")  # in a sentence only what no word looks like
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)

_SETTLE_REASON = ("errorReason", "error_reason", "invalidReason", "errorType", "error", "detail", "code")
_VERIFY_REASON = ("invalidReason", "invalid_reason", "errorReason", "errorType", "error", "detail", "code")
_MESSAGE = (
    "errorMessage", "error_message", "invalidMessage", "invalid_message", "errorReasonDetails",
    "invalidReasonDetails", "message", "detail", "error",
)  # fmt: skip
_TRANSACTION = ("transaction", "txHash", "tx_hash", "transactionHash", "transaction_hash")
_NO = ("success", "settled", "ok", "valid", "verified", "isValid", "is_valid")
_FAILED_STATUSES = frozenset({"error", "failure", "failed", "rejected"})
_NETWORK = ("network", "networkId")
_PAYER = ("payer",)


class SettleReply(msgspec.Struct, frozen=True):
    """success: None where the reply does not say; denied: it says no, in whatever way. transaction: "" where
    none is named; a hash found in free text is a hint like any other reported one."""

    well_formed: bool
    success: bool | None
    reason: str
    message: str
    transaction: str
    network: str
    payer: str
    denied: bool


class VerifyReply(msgspec.Struct, frozen=True):
    """is_valid: None where the reply does not say; denied: it says no, in whatever way."""

    well_formed: bool
    is_valid: bool | None
    reason: str
    message: str
    payer: str
    denied: bool


def read_settle_reply(status: int, body: bytes) -> SettleReply:
    """A /settle reply of any dialect. status is not judged here; it names a reply without a text."""
    said = _objects(body)
    success = said[0].get("success") if said else None
    success = success if type(success) is bool else None
    # A success tells no reason: every good settle comes by here.
    reason, message = ("", "") if success else _reason_and_message(status, body, said, _SETTLE_REASON)
    transaction = _first_text(said, _TRANSACTION)
    if not transaction and success is not True:
        transaction = _hash_in(reason) or _hash_in(message) or ("" if said else _hash_in(_text(body)))
    if EVM_HASH.fullmatch(transaction):
        transaction = transaction.lower()
    return SettleReply(
        well_formed=success is not None,
        success=success,
        reason=_short(reason),
        message=_short(message),
        transaction=transaction,
        network=_first_text(said, _NETWORK),
        payer=_first_text(said, _PAYER),
        denied=success is False or _says_no(said),
    )


def read_verify_reply(status: int, body: bytes) -> VerifyReply:
    """A /verify reply of any dialect."""
    said = _objects(body)
    valid = said[0].get("isValid", said[0].get("is_valid")) if said else None
    valid = valid if type(valid) is bool else None
    reason, message = _reason_and_message(status, body, said, _VERIFY_REASON)
    return VerifyReply(
        well_formed=valid is not None,
        is_valid=valid,
        reason="" if valid else _short(reason),
        message="" if valid else _short(message),
        payer=_first_text(said, _PAYER),
        denied=valid is False or _says_no(said),
    )


def write_settle_success(*, transaction: str, network: str, payer: str, amount: int | None = None) -> bytes:
    """A success with every key that SDKs demand. amount: atomic units, where it is told."""
    said = {"success": True, "payer": payer, "transaction": transaction, "network": network}
    return orjson.dumps(said if amount is None else {**said, "amount": str(amount)})


def write_settle_failure(*, reason: str, message: str, transaction: str, network: str, payer: str) -> bytes:
    """A failure with every key that SDKs demand."""
    said = {"success": False, "errorReason": reason, "errorMessage": message, "payer": payer}
    return orjson.dumps({**said, "transaction": transaction, "network": network})


def write_verify_valid(payer: str) -> bytes:
    """A yes to /verify."""
    return orjson.dumps({"isValid": True, "payer": payer})


def write_verify_invalid(*, reason: str, message: str, payer: str) -> bytes:
    """A no to /verify."""
    said = {"isValid": False, "invalidReason": reason, "invalidMessage": message, "payer": payer}
    return orjson.dumps(said)


def complete_settle_body(body: bytes, *, transaction: str, network: str, payer: str) -> bytes:
    """A facilitator's own successful body with what SDKs demand filled in.

    The very same bytes where nothing is missing; else every other value keeps its bytes. A body that
    is no success is replaced. A transaction that the facilitator named is never overwritten.
    """
    said = _object(body)
    if said is None or said.get("success") is not True:
        return write_settle_success(transaction=transaction, network=network, payer=payer)
    wanted = {"transaction": transaction, "network": network, "payer": payer}
    missing = {name: value for name, value in wanted.items() if _lacks(said.get(name), value)}
    if not missing:
        return body
    try:
        raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):  # nested deeper than it can be taken apart
        return write_settle_success(transaction=transaction, network=network, payer=payer)
    parts = {name: bytes(value) for name, value in raw.items()}
    parts.update({name: orjson.dumps(value) for name, value in missing.items()})
    return b"{" + b",".join(orjson.dumps(name) + b":" + value for name, value in parts.items()) + b"}"


def _says_no(said: list[dict[str, Any]]) -> bool:
    """An explicit no in words of its own; none of these is ever read as a yes."""
    if not said:
        return False
    status = said[0].get("status")
    failed = isinstance(status, str) and status.lower() in _FAILED_STATUSES
    return failed or any(said[0].get(name) is False for name in _NO)


def _lacks(present: object, wanted: str) -> bool:
    return type(present) is not str or (not present and bool(wanted))


def _objects(body: bytes) -> list[dict[str, Any]]:
    """The reply's object, then the ones inside it that carry its error: nested, or quoted in a text."""
    root = _object(body)
    if root is None:
        return []
    root = uncapitalized(root)
    inside = []
    for name in (*_SETTLE_REASON, *_MESSAGE):
        value = root.get(name)
        if type(value) is str:
            start, end = value.find("{"), value.rfind("}") + 1
            value = _object(value[start:end].encode()) if 0 <= start < end else None
        if type(value) is dict:
            inside.append(value)
    return [root, *inside]


def uncapitalized(said: dict[str, Any]) -> dict[str, Any]:
    """An object as Go writes it without tags (`Success`, `Error`), with the names that all others use."""
    plain = {name: value for name, value in said.items() if not name[:1].isupper()}
    if len(plain) == len(said):
        return said
    return {name[:1].lower() + name[1:]: value for name, value in said.items()} | plain


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        said = orjson.loads(body)
    except ValueError:
        return None
    return said if type(said) is dict else None


def _reason_and_message(
    status: int, body: bytes, said: list[dict[str, Any]], reasons: tuple[str, ...]
) -> tuple[str, str]:
    """The innermost reason, because wrappers quote it in free text; and the first message."""
    if not said:
        text = " ".join(_TAGS.sub(" ", _text(body)[:MAX_PAGE]).split())
        return _split(text or f"HTTP {status}")
    named = [_first_text([part], reasons) for part in said]
    reason = next((name for name in reversed(named) if _REASON.fullmatch(name)), _first_text(said, reasons))
    message = next((text for part in said if (text := _first_text([part], _MESSAGE)) and text != reason), "")
    if _REASON.fullmatch(reason) or _first_text(said, reasons[:2]):
        return reason, message
    return _split(reason or message)


def _split(text: str) -> tuple[str, str]:
    """`reason: message` where the text begins with a reason, else a message without one."""
    head, _, tail = text.partition(":")
    if _LEADING_REASON.fullmatch(head):
        return head, tail.strip()
    return "", text


def _first_text(said: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    for part in said:
        for name in names:
            value = part.get(name)
            if type(value) is str and value.strip():
                return value.strip()
    return ""


def without_arguments(text: str) -> str:
    """The text without the arguments of a contract's call: they hold the payment's nonce and signature."""
    return _ARGUMENTS.sub(" ", text)


def _hash_in(text: str) -> str:
    """The first hash that the text calls one, else the first that may be one."""
    text = without_arguments(text[:MAX_SEARCHED])
    found = [
        (match.group(), before)
        for match in EVM_HASH.finditer(text)
        if not _NOT_A_TRANSACTION.search(before := text[max(0, match.start() - 32) : match.start()])
    ]
    called = (hash for hash, before in found if _CALLED_A_TRANSACTION.search(before))
    return next(called, found[0][0] if found else "")


def _text(body: bytes) -> str:
    return body[:MAX_SEARCHED].decode("utf-8", "replace")


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
