"""The header that tells a facilitator who is calling, read or signed anew for every request.

Secrets come from the environment or a mounted file, are held in memory only, and never reach a repr, an
error or a log. Knows PyJWT and cryptography; nothing else does.
"""

import base64
import binascii
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from guardian.errors import PolicyError
from guardian.policy.auth import AuthPolicy, CdpAuth, SecretPlace

CDP_LIFETIME_S: Final = 120
"""What CDP accepts (docs.cdp.coinbase.com/get-started/authentication/jwt-authentication)."""

CDP_MARGIN_S: Final = 60
"""A token with less left is not sent: the request may wait for a connection, and clocks differ."""

MAX_SECRET_BYTES: Final = 16_384
MAX_TOKENS: Final = 64
"""Tokens kept; a facilitator has a handful of paths, and a caller may not fill the memory."""

MAX_CALLERS_TOKEN_BYTES: Final = 4096
"""CDP's have some 700; looking into longer ones is work, and depth, that a caller chooses."""

RawHeaders = Sequence[tuple[bytes, bytes]]
Key = EllipticCurvePrivateKey | Ed25519PrivateKey
Value = TypeVar("Value")


class Way(Protocol):
    """One way of showing who is calling."""

    name: bytes

    def value(self, method: str, url: str) -> bytes:
        """The header's value for one request."""

    def serves(self, value: bytes, method: str, url: str) -> bool:
        """Whether a caller's own value is good for this request, as far as can be seen."""


class Credentials:
    """What one facilitator is told about who is calling."""

    def __init__(self, way: Way, *, always: bool) -> None:
        self._way = way
        self._always = always

    def headers(self, method: str, url: str, sent: RawHeaders, *, repeated: bool = False) -> RawHeaders:
        """`sent` with the guardian's own header where it is wanted; every other header as it was.

        url: the facilitator's, in full. repeated: the guardian sends this again on its own account, when
        a caller's short-lived token may be used up.
        """
        own = self._way.name
        caller = [value for name, value in sent if name.lower() == own]
        kept = caller and not (self._always or repeated)
        if kept and all(self._way.serves(value, method, url) for value in caller):
            return sent
        others = [(name, value) for name, value in sent if name.lower() != own]
        return [*others, (own, self._way.value(method, url))]

    def __repr__(self) -> str:
        return f"Credentials({self._way.name.decode()})"


def credentials(
    auth: AuthPolicy, environ: Mapping[str, str], at: str, *, clock: Callable[[], float] = time.time
) -> Credentials:
    """Read the secrets that a policy names. at: where it stands there, `facilitators[0].auth`. Raises
    PolicyError for one that is missing or no such secret."""
    always = auth.when == "always"
    if auth.cdp is not None:
        return Credentials(_Cdp(auth.cdp, environ, f"{at}.cdp", clock), always=always)
    if auth.header is not None:
        value = Secret(auth.header.value, environ, f"{at}.header.value", _as_header)
        return Credentials(_Fixed(auth.header.name.encode("ascii"), b"", value), always=always)
    assert auth.bearer is not None
    token = Secret(auth.bearer, environ, f"{at}.bearer", _as_header)
    return Credentials(_Fixed(b"authorization", b"Bearer ", token), always=always)


class Secret(Generic[Value]):
    """A secret and where it stands. A file is read again when it changes; what cannot be read or is no
    such secret then leaves the last good one in force, because a rotation takes more than one step."""

    def __init__(
        self, place: SecretPlace, environ: Mapping[str, str], at: str, parse: Callable[[str], Value]
    ) -> None:
        self._place = place
        self._environ = environ
        self._at = at
        self._parse = parse
        self._seen = self._state()
        self._value = self._read()

    def get(self) -> Value:
        """The secret as it is now."""
        state = self._state()
        if state != self._seen and state is not None:
            try:
                self._value = self._read()
            except PolicyError:
                return self._value
            self._seen = state
        return self._value

    def _state(self) -> tuple[int, int, int] | None:
        """What changes with a file; of a mounted secret the link is swapped, and its target is looked at."""
        if self._place.file is None:
            return None
        try:
            found = os.stat(self._place.file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Value:
        text = self._text().strip()
        if not text:
            raise self._error(f"{self._place} is empty; put the secret into it")
        try:
            return self._parse(text)
        except ValueError as error:
            raise self._error(f"{self._place} holds {error}") from None

    def _text(self) -> str:
        if self._place.env is not None:
            found = self._environ.get(self._place.env)
            if found is None:
                raise self._error(f"{self._place} is not set; set it for the guardian, or name another place")
            return found
        assert self._place.file is not None
        try:
            with open(self._place.file, "rb") as stream:
                return stream.read(MAX_SECRET_BYTES).decode("utf-8")
        except OSError as error:
            reason = (error.strerror or "a fault").lower()
            cure = "mount it readable for the guardian's user, or name another place"
            raise self._error(f"cannot read {self._place}: {reason}; {cure}") from None
        except UnicodeDecodeError:
            raise self._error(f"{self._place} is not text; put the secret into it as text") from None

    def _error(self, message: str) -> PolicyError:
        return PolicyError(f"{self._at}: {message}")


class _Fixed:
    """A value that is the same for every request."""

    def __init__(self, name: bytes, prefix: bytes, secret: Secret[bytes]) -> None:
        self.name = name
        self._prefix = prefix
        self._secret = secret

    def value(self, method: str, url: str) -> bytes:
        return self._prefix + self._secret.get()

    def serves(self, value: bytes, method: str, url: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _Token:
    """A signed token, for which key, and until when, in Unix seconds."""

    value: bytes
    key: Key
    key_id: bytes
    expires_at: float

    def __repr__(self) -> str:
        return "_Token()"


class _Cdp:
    """Tokens for Coinbase's facilitator: for one method and path, and for two minutes."""

    name = b"authorization"

    def __init__(
        self, auth: CdpAuth, environ: Mapping[str, str], at: str, clock: Callable[[], float]
    ) -> None:
        self._key_id = Secret(auth.key_id, environ, f"{at}.key_id", _as_header)
        self._key = Secret(auth.key_secret, environ, f"{at}.key_secret", _as_key)
        self._clock = clock
        self._tokens: dict[str, _Token] = {}

    def value(self, method: str, url: str) -> bytes:
        uri = _uri(method, url)
        key, key_id, now = self._key.get(), self._key_id.get(), self._clock()
        token = self._tokens.get(uri)
        if (
            token is None
            or token.key is not key
            or token.key_id != key_id
            or token.expires_at - now <= CDP_MARGIN_S
        ):
            token = _Token(_signed(key, key_id, uri, int(now)), key, key_id, int(now) + CDP_LIFETIME_S)
            if len(self._tokens) >= MAX_TOKENS:
                self._tokens.clear()
            self._tokens[uri] = token
        return b"Bearer " + token.value

    def serves(self, value: bytes, method: str, url: str) -> bool:
        """A caller's token signed for this request and with a minute left; anything else is not for us
        to judge."""
        if len(value) > MAX_CALLERS_TOKEN_BYTES:
            return True
        try:
            token = value.decode("ascii").partition(" ")[2]
            claims = jwt.decode(token, options={"verify_signature": False})
        except (ValueError, RecursionError, jwt.PyJWTError):
            return True
        expires, uris = claims.get("exp"), claims.get("uris")
        if isinstance(expires, int | float) and expires - self._clock() < CDP_MARGIN_S:
            return False
        return not isinstance(uris, list) or _uri(method, url) in uris


def _uri(method: str, url: str) -> str:
    """What a token is signed for: `POST api.cdp.coinbase.com/platform/v2/x402/settle`."""
    parts = urlsplit(url)
    return f"{method.upper()} {parts.netloc}{parts.path}"


def _signed(key: Key, key_id: bytes, uri: str, now: int) -> bytes:
    """As CDP's own SDK signs (github.com/coinbase/cdp-sdk, python/cdp/auth/utils/jwt.py)."""
    subject = key_id.decode("ascii")
    claims: dict[str, Any] = {
        "iss": "cdp",
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + CDP_LIFETIME_S,
        "uris": [uri],
    }
    algorithm = "ES256" if isinstance(key, EllipticCurvePrivateKey) else "EdDSA"
    headers = {"kid": subject, "nonce": secrets.token_hex(16)}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers).encode("ascii")


def _as_header(text: str) -> bytes:
    if not text.isascii() or not text.isprintable():
        raise ValueError("characters that no header may have; put in the secret alone, on one line")
    return text.encode("ascii")


def _as_key(text: str) -> Key:
    """A key in either of the forms that CDP hands out; raises ValueError without a word of it."""
    cure = "no key as CDP hands it out: PEM of an EC key (P-256), or base64 of 64 bytes (Ed25519)"
    pem = text.replace("\\n", "\n")  # as it stands in an environment file without quotes
    if pem.startswith("-----BEGIN"):
        try:
            found = load_pem_private_key(pem.encode("utf-8"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError(cure) from None
        if isinstance(found, EllipticCurvePrivateKey) and isinstance(found.curve, SECP256R1):
            return found
        raise ValueError(cure)
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(cure) from None
    if len(raw) != 64:
        raise ValueError(cure)
    return Ed25519PrivateKey.from_private_bytes(raw[:32])
