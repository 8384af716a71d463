"""URLs of a policy: which are taken, and how much of one may be shown. Pydantic types and pure functions."""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, WithJsonSchema

from guardian.policy.units import show

_URL_MAX_CHARS: Final = 2048


def redact_url(url: str) -> str:
    """A URL without whatever may be a key: credentials, path and query become `…`."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "…"
    secret = "@" in parts.netloc or parts.path.strip("/") or parts.query
    return f"{parts.scheme}://{host}/…" if secret else f"{parts.scheme}://{host}"


def leads_to(url: str) -> str:
    """Where a sound URL leads, however its scheme, host and port are written; its path is case-sensitive."""
    parts = urlsplit(url)
    default = {"http": 80, "ws": 80, "https": 443, "wss": 443}[parts.scheme]
    host = f"{parts.hostname}:{parts.port or default}"
    return parts._replace(netloc=host, path=parts.path.rstrip("/")).geturl()


def _url(value: object) -> str:
    parts = _split(value, ("http", "https"))
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds credentials; leave them out, they never stand in this file")
    if set("?#") & set(str(value)):  # an empty query too: the paths would be added to it
        raise ValueError("the URL has a query or fragment; leave it out, paths are added to this URL")
    return str(value).rstrip("/")


def _rpc(value: object) -> str:
    _split(value, ("http", "https", "ws", "wss"))
    if "#" in str(value):
        raise ValueError("the URL has a fragment (#…); leave it out")
    return str(value)


def _split(value: object, schemes: Sequence[str]) -> SplitResult:
    """The parts of a sound URL. Its text stays out of the errors: it may hold a key."""
    cure = f"write it like {schemes[0]}://host:port/path"
    if not isinstance(value, str):
        raise ValueError(f"{show(value)} is not a URL; {cure}")
    if (
        len(value) > _URL_MAX_CHARS
        or not value.isascii()
        or not value.isprintable()
        or set(' \\"<>^`{|}') & set(value)
    ):
        raise ValueError(f"the URL is too long or has characters that no URL has; {cure}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(f"the URL's host or port cannot be read; {cure}") from None
    if "://" not in value:
        raise ValueError(
            f"the URL has no scheme; begin it with {' or '.join(f'{one}://' for one in schemes)}"
        )
    if parts.scheme not in schemes:
        raise ValueError(f"the URL has the scheme {show(parts.scheme)}; use one of {', '.join(schemes)}")
    if not parts.hostname or port == 0:
        raise ValueError(f"the URL has no host, or port 0; {cure}")
    return parts


def _uri(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": "uri", "pattern": pattern})


FacilitatorUrl = Annotated[str, BeforeValidator(_url), _uri(r"^[hH][tT][tT][pP][sS]?://[^@/?#]+(/[^?#]*)?$")]
RpcUrl = Annotated[str, BeforeValidator(_rpc), _uri(r"^([hH][tT][tT][pP]|[wW][sS])[sS]?://[^#]+$")]
