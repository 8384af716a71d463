"""What is kept of a signed request, unreadable to who has only the store: AES-256-GCM. No I/O.

GUARDIAN_RECORD_KEY holds one key or several, the newest first: it seals, all of them open. Each text is
bound to its record's key, so that none can be put under another. Without a key, or while `plain` stands
first, it is kept as it is. What cannot be opened is left as it is, by whoever has another key or none.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guardian.errors import PolicyError

VARIABLE = "GUARDIAN_RECORD_KEY"
KEY_BYTES = 32
PLAIN = "plain"
"""In the first place: replicas learn a first key before any of them seals with it."""

_PLAIN, _SEALED = b"\x00", b"\x01"
_NONCE_BYTES = 12


class Sealing:
    """Seals and opens."""

    def __init__(self, keys: Sequence[bytes] = (), *, plain: bool = False) -> None:
        """keys: of 32 bytes each; the first seals, unless plain."""
        self._ciphers = [AESGCM(key) for key in keys]
        self._plain = plain or not self._ciphers

    def seal(self, text: bytes, about: str) -> bytes:
        """about: the key of the record that it is kept in."""
        if self._plain:
            return _PLAIN + text
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _SEALED + nonce + self._ciphers[0].encrypt(nonce, text, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes | None:
        """What was sealed; None where no key of ours opens it, or it was put there from elsewhere."""
        kind, rest = sealed[:1], sealed[1:]
        if kind == _PLAIN:
            return rest
        if kind != _SEALED:
            return None
        nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, ciphertext, about.encode())
            except (InvalidTag, ValueError):
                continue
        return None


def sealing_from(environ: Mapping[str, str]) -> Sealing:
    """As the environment has it; raises PolicyError, without the key, for one that is none."""
    texts = [part.strip() for part in environ.get(VARIABLE, "").split(",") if part.strip()]
    plain = texts[:1] == [PLAIN]
    return Sealing([_key(text) for text in (texts[1:] if plain else texts)], plain=plain)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        cure = "openssl rand -base64 32 makes one; several go with commas between, the newest first"
        raise PolicyError(f"{VARIABLE}: not {KEY_BYTES} bytes in base64; {cure}")
    return key
