"""Structured logs: one JSON object a line on stderr, without secrets. Knows only `logging`.

Everything is redacted where it is written out, message, extra fields and exception text alike, so
that no caller has to remember. What is cut: signatures (128 hex digits and more), long base64 (payment
headers, signed transactions), JSON web tokens, whatever stands behind a name such as `authorization`,
`x-api-key` or `password`, and credentials inside URLs. Transaction hashes, nonces and addresses stay.
"""

import json
import logging
import math
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO
from urllib.parse import urlsplit, urlunsplit

REDACTED: Final = "[redacted]"
MAX_INPUT_CHARS: Final = 65_536  # bounds the work of the patterns on a hostile message
MAX_FIELD_CHARS: Final = 8_192  # one line stays below what log collectors split
MAX_DEPTH: Final = 6
MAX_ITEMS: Final = 100

_ALWAYS = (
    r"(?:proxy-)?authorization|x-api-key|api[-_]?key|(?:set-)?cookie|password|passphrase|passwd|"
    r"(?:client[-_]?)?secret(?:[-_]?key)?|private[-_]?key|mnemonic|"
    r"(?:access|auth|refresh|id|bearer)[-_]?token|payment-signature|x-payment"
)
_SECRET_NAME = re.compile(rf"(?i)(?:.*[-_.])?(?:{_ALWAYS}|signature|token)")
_SCHEME = r"(?:(?:bearer|basic|digest|token|apikey|negotiate|signature)\s+)?"
_BETWEEN = r"""\\?["']?\s*(?:[:=]|(?<=["']),)\s*(?:b(?=["']))?\\?["']?"""
_NAMED = re.compile(rf"""(?i)((?<![a-z0-9])(?:{_ALWAYS}){_BETWEEN}){_SCHEME}[^\s"'\\,;{{\[&]+""")
_SIGNATURE = re.compile(rf"""(?i)((?<![a-z0-9_-])signature{_BETWEEN})[^\s"'\\,;{{\[&]{{16,}}""")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9+/=._~-]{8,}")
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{128,}")
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
_URL = re.compile(r"""(?i)\b(?:https?|wss?|rediss?(?:\+(?:sentinel|cluster))?|unix)://[^\s"'<>\\]+""")
_QUERY_SECRET = re.compile(r"(?i)((?:^|&)[\w.-]*(?:key|token|secret|sig|auth|password|code)[\w.-]*=)[^&]+")
# A path segment that looks drawn by lot: how RPC providers write their keys into the URL.
_PATH_SECRET = re.compile(r"(?<=/)(?!0x|pay_)(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}(?=/|$)")

# A record's own attributes; the rest came in through `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
# They report each request, with its URL.
_TALKATIVE: Final = ("httpx", "httpcore", "urllib3", "web3", "websockets", "uvicorn.access")


def redact(text: str) -> str:
    """The text without secrets, shortened to MAX_FIELD_CHARS."""
    cut = text[:MAX_INPUT_CHARS]
    cut = _URL.sub(_redact_url, cut)
    cut = _NAMED.sub(rf"\1{REDACTED}", cut)
    cut = _SIGNATURE.sub(rf"\1{REDACTED}", cut)
    cut = _BEARER.sub(rf"\1 {REDACTED}", cut)
    for pattern in (_HEX, _JWT):
        cut = pattern.sub(REDACTED, cut)
    cut = _BASE64.sub(_redact_base64, cut)
    return cut if len(cut) <= MAX_FIELD_CHARS else cut[:MAX_FIELD_CHARS] + "…"


def _redact_url(match: re.Match[str]) -> str:
    try:
        parts = urlsplit(match.group())
    except ValueError:
        return REDACTED
    userinfo, at, host = parts.netloc.rpartition("@")
    netloc = f"{REDACTED}@{host}" if at and userinfo else host
    path = _PATH_SECRET.sub(REDACTED, parts.path)
    query = _QUERY_SECRET.sub(rf"\1{REDACTED}", parts.query)
    return urlunsplit((parts.scheme, netloc, path, query, parts.fragment))


def _redact_base64(match: re.Match[str]) -> str:
    """Base64 has slashes too; a payment's key, `…/0x…/0x…`, is none."""
    text = match.group()
    is_key = "/0x" in text and all(len(part) <= 66 for part in text.split("/"))
    return text if is_key else REDACTED


def _clean(name: str, value: object, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.fullmatch(name):
        return REDACTED
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < MAX_DEPTH and isinstance(value, dict):
        some = list(value.items())[:MAX_ITEMS]
        return {redact(str(key)): _clean(str(key), item, depth + 1) for key, item in some}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return redact(_text(value))


def _text(value: object) -> str:
    try:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception as exc:  # a broken __str__ must not cost the log line
        return f"<{type(value).__name__}: {type(exc).__name__}>"


class JsonFormatter(logging.Formatter):
    """Turns a record into one redacted JSON line; never raises, since logging would then print the
    raw arguments itself."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(_message(record)),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = _clean(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = redact(self.formatException(record.exc_info))
        elif record.exc_text:
            line["exception"] = redact(record.exc_text)
        if record.stack_info:
            line["stack"] = redact(record.stack_info)
        return json.dumps(line)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # arguments that do not fit their format
        return f"{_text(record.msg)} <{type(exc).__name__} in the arguments>"


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send every logger, uvicorn's too, as JSON to `stream` (stderr); may be called again.

    Start uvicorn with `log_config=None`, or it puts its own handlers back. Raises ValueError for a
    level that logging does not know.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [handler]
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    if root.level > logging.DEBUG:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
