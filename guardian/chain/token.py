"""What a token contract says of its own EIP-712 domain: asked once per asset, then remembered.

A payment names its asset, so anybody can name any address here. What a stranger's asset may cost is
bounded on every side: reads under way, reads begun per minute, gas and size of an answer, entries
kept, and the time that a caller waits. Nothing said is None, and proves nothing.

The word of a contract counts when it can be believed: `eip712Domain()` (EIP-5267) unless
`DOMAIN_SEPARATOR()` contradicts it, else the one of a few likely domains, `name()` with `version()`
first, whose hash is `DOMAIN_SEPARATOR()`. A name alone is not enough: tokens are renamed, and keep the
domain that they were made with.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from eth_utils.crypto import keccak

from guardian.chain.endpoint import Endpoint, RpcRefused
from guardian.chain.rpc import Endpoints
from guardian.chain.wires import Call
from guardian.errors import ChainUnavailable
from guardian.wire.fields import is_address
from guardian.wire.names import Address, Network
from guardian.wire.networks import AssetInfo, Domain, asset_info

MAX_READS = 4
"""Assets that no table knows, read at the same time."""

MAX_READS_PER_MINUTE = 60
"""The same, begun in a minute: a seller adds a token now and then, only an attacker adds hundreds."""

MAX_KNOWN = 1024
"""Domains kept, the one longest unused goes first; a facilitator serves some dozens of tokens."""

MAX_ASKED = 4096
"""Tokens that were asked about on the side; a caller may not fill the memory by naming more."""

MAX_SILENT = 1024
SILENT_S = 30.0
"""How long an asset without an answer is left alone: its node may be back, its contract deployed."""

READ_LIMIT_S = 10.0
"""For all endpoints together; the caller waits as long as it says itself."""

CALL_GAS = 1_000_000
"""These functions need some 50 000; the bound keeps a hostile contract from burning the node's time, and
from answering megabytes."""

MAX_ANSWER_CHARS = 2 + 2 * 2048
MAX_NAME_BYTES = 256
"""As many as are read of a domain in a payment; real names have some twenty."""

WORD = 32
HAS_NAME, HAS_VERSION, HAS_CHAIN, HAS_CONTRACT, HAS_SALT = (1 << bit for bit in range(5))
COMMON_FIELDS = HAS_NAME | HAS_VERSION | HAS_CHAIN | HAS_CONTRACT
"""Bits of EIP-5267's `fields`, and the domain that tokens have by far the most."""

Key = tuple[Network, Address]


def _selector(signature: str) -> str:
    return "0x" + keccak(text=signature)[:4].hex()


_QUESTIONS = tuple(_selector(name + "()") for name in ("eip712Domain", "name", "version", "DOMAIN_SEPARATOR"))


class Tokens:
    """The domains of every token that was asked about. For one event loop."""

    def __init__(
        self,
        endpoints: Callable[[Network], Endpoints | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        """endpoints: those of a network, None where it has none; clock: seconds, for pauses."""
        self._endpoints = endpoints
        self._clock = clock
        self._on_error = on_error
        self._known: OrderedDict[Key, Domain] = OrderedDict()
        self._asked: set[Key] = set()
        self._silent: dict[Key, float] = {}
        self._flights: dict[Key, asyncio.Task[Domain | None]] = {}
        self._minute_ends = 0.0
        self._begun = 0

    def known(self, network: Network, asset: Address) -> Domain | None:
        """The domain if it was read before; asks nobody."""
        key = (network, Address(asset.lower()))
        domain = self._known.get(key)
        if domain is not None:
            self._known.move_to_end(key)
        return domain

    def known_or_asked(self, network: Network, asset: Address) -> Domain | None:
        """The domain if it was read before; else it is read on the side, once, for whoever comes next."""
        domain, key = self.known(network, asset), (network, Address(asset.lower()))
        if domain is None and key not in self._asked and len(self._asked) < MAX_ASKED:
            self._asked.add(key)
            if key not in self._flights:
                self._begin(key)
        return domain

    async def domain(self, network: Network, asset: Address, *, limit_s: float) -> Domain | None:
        """The contract's own domain; None where it says none within limit_s. Raises nothing.

        All who ask for one asset share one read, which goes on when they leave.
        """
        domain = self.known(network, asset)
        if domain is not None:
            return domain
        key = (network, Address(asset.lower()))
        flight = self._flights.get(key) or self._begin(key)
        if flight is None:
            return None
        done, _ = await asyncio.wait((flight,), timeout=limit_s)
        return None if not done or flight.cancelled() else flight.result()

    async def close(self) -> None:
        """Give up every read; idempotent."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)

    def _begin(self, key: Key) -> asyncio.Task[Domain | None] | None:
        network, asset = key
        if self._silent.get(key, 0.0) > self._clock() or not is_address(asset):
            return None
        endpoints = self._endpoints(network)
        if endpoints is None or not (asset_info(network, asset) or self._stranger_may()):
            return None
        flight = asyncio.create_task(self._read(key, endpoints))
        self._flights[key] = flight
        flight.add_done_callback(lambda done: self._flights.pop(key, None))
        return flight

    def _stranger_may(self) -> bool:
        """Whether one more asset that no table knows may be read now; counts it."""
        now = self._clock()
        if now >= self._minute_ends:
            self._minute_ends, self._begun = now + 60.0, 0
        if len(self._flights) >= MAX_READS or self._begun >= MAX_READS_PER_MINUTE:
            return False
        self._begun += 1
        return True

    async def _read(self, key: Key, endpoints: Endpoints) -> Domain | None:
        domain: Domain | None = None
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                domain = await endpoints.first(lambda endpoint: read_domain(endpoint, *key))
        except (ChainUnavailable, TimeoutError):
            pass
        except Exception as exc:  # the edge of a task: a fault here must not cost a payment
            self._on_error(f"{key[0]}: a token could not be read: {type(exc).__name__}")
        self._remember(key, domain)
        return domain

    def _remember(self, key: Key, domain: Domain | None) -> None:
        self._silent.pop(key, None)
        if domain is None:
            self._silent[key] = self._clock() + SILENT_S
            if len(self._silent) > MAX_SILENT:
                del self._silent[next(iter(self._silent))]
            return
        self._known[key] = domain
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


async def read_domain(endpoint: Endpoint, network: Network, asset: Address) -> Domain | None:
    """What the contract says, None without a word that can be believed. Raises ChainUnavailable.

    An account without code answers nothing to everything, which is no word either.
    """
    calls = [
        Call("eth_call", [{"to": asset, "data": data, "gas": hex(CALL_GAS)}, "latest"]) for data in _QUESTIONS
    ]
    answers = await endpoint.ask_all(calls)
    if all(isinstance(answer, RpcRefused) for answer in answers):
        raise answers[0]  # a node that refuses everything: another one may not
    announced, name, version, separator = map(_raw, answers)
    place = _Place(int(network.partition(":")[2]), asset)
    proof = separator if separator is not None and len(separator) == WORD else None
    claim = _announced(announced, place) if announced is not None else None
    if claim is not None and proof in (None, claim.separator(place)):
        return claim.domain
    guesses = _guesses(asset_info(network, asset), _text(name), _text(version))
    return next((guess.domain for guess in guesses if guess.separator(place) == proof), None)


class _Place(NamedTuple):
    """Where a domain holds."""

    chain_id: int
    asset: Address


class _Claim(NamedTuple):
    """A domain with everything that goes into its hash. fields: as EIP-5267 counts them."""

    name: str
    version: str = ""
    fields: int = COMMON_FIELDS
    salt: bytes = b""

    @property
    def domain(self) -> Domain:
        whole = self.fields | HAS_VERSION == COMMON_FIELDS
        return Domain(self.name, self.version if self.fields & HAS_VERSION else None, whole)

    def separator(self, place: _Place) -> bytes:
        """The EIP-712 domain separator."""
        parts = (
            (HAS_NAME, "string name", keccak(text=self.name)),
            (HAS_VERSION, "string version", keccak(text=self.version)),
            (HAS_CHAIN, "uint256 chainId", place.chain_id.to_bytes(WORD, "big")),
            (HAS_CONTRACT, "address verifyingContract", bytes.fromhex(place.asset[2:]).rjust(WORD, b"\0")),
            (HAS_SALT, "bytes32 salt", self.salt),
        )
        present = [(typed, value) for bit, typed, value in parts if self.fields & bit]
        kind = keccak(text=f"EIP712Domain({','.join(typed for typed, _ in present)})")
        return keccak(kind + b"".join(value for _, value in present))


def _guesses(listed: AssetInfo | None, name: str | None, version: str | None) -> Iterator[_Claim]:
    """Domains that a token may have, the likeliest first; tokens without version() mostly count 1."""
    for candidate in (version, "1", "2"):
        if name and candidate is not None:
            yield _Claim(name, candidate)
    if name:
        yield _Claim(name, fields=COMMON_FIELDS & ~HAS_VERSION)
    if listed is not None:
        yield _Claim(listed.name, listed.version)


def _announced(raw: bytes, place: _Place) -> _Claim | None:
    """The answer of eip712Domain(): (bytes1 fields, string name, string version, uint256 chainId,
    address verifyingContract, bytes32 salt, uint256[] extensions); None where it is not this token's."""
    if len(raw) < 7 * WORD:
        return None
    fields = raw[0]
    name, version = _text_at(raw, WORD), _text_at(raw, 2 * WORD)
    if not name or version is None or not fields & HAS_NAME:
        return None
    if fields & HAS_CHAIN and int.from_bytes(raw[3 * WORD : 4 * WORD], "big") != place.chain_id:
        return None
    if fields & HAS_CONTRACT and raw[4 * WORD : 5 * WORD].hex()[-40:] != place.asset[2:]:
        return None
    return _Claim(name, version, fields, raw[5 * WORD : 6 * WORD])


def _raw(answer: object) -> bytes | None:
    """The bytes of an answer; None for a refusal, for nothing, for nonsense and for too much."""
    if not isinstance(answer, str) or not 2 < len(answer) <= MAX_ANSWER_CHARS or answer[:2] != "0x":
        return None
    try:
        return bytes.fromhex(answer[2:])
    except ValueError:
        return None


def _text(raw: bytes | None) -> str | None:
    """The answer of name() or version(): a string, or bytes32 in old tokens."""
    if raw is None:
        return None
    if len(raw) == WORD:
        return _readable(raw.rstrip(b"\0"))
    return _text_at(raw, 0)


def _text_at(raw: bytes, head: int) -> str | None:
    """The string that the word at `head` points to."""
    start = int.from_bytes(raw[head : head + WORD], "big") + WORD
    length = int.from_bytes(raw[start - WORD : start], "big")
    if start > len(raw) or length > min(MAX_NAME_BYTES, len(raw) - start):
        return None
    return _readable(raw[start : start + length])


def _readable(text: bytes) -> str | None:
    """UTF-8 that can be shown; a name with control or direction marks is not repeated to anybody."""
    try:
        found = text.decode()
    except UnicodeDecodeError:
        return None
    return found if found.isprintable() else None
