"""What facilitators say they support, as a view over their /supported bytes. No I/O.

Shapes: x402 v1 has only `kinds`, v2 adds `extensions` and `signers`. Read tolerantly: what cannot
be read filters nothing out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from guardian.wire.networks import V1_NAMES

MAX_ENTRIES = 10_000
"""Kinds, extensions and signers of one facilitator. There are some 2,500 EVM chains, each in two versions."""

Kind = tuple[int, str, str]
AnyKind = tuple[int | None, str, str]


@dataclass(frozen=True, slots=True)
class Supported:
    """One facilitator's last good answer: its bytes, and what was found in them.

    kinds: (x402 version, scheme, network as CAIP-2 where the v1 name is known), and each without its version;
    families: the same for networks like `eip155:*`, without the star; signers: the addresses it signs with,
    EVM's in lower case.
    """

    body: bytes
    document: dict[str, Any]
    kinds: frozenset[AnyKind]
    families: frozenset[AnyKind]
    longest_family: int
    signers: frozenset[str]

    def serves(self, network: str, scheme: str, x402_version: int | None) -> bool:
        """Whether one kind matches; `eip155:*` matches every EVM chain, a version of None all of them."""
        if (x402_version, scheme, network) in self.kinds:
            return True
        beginnings = range(min(len(network), self.longest_family) + 1)
        return any((x402_version, scheme, network[:length]) in self.families for length in beginnings)

    def where(self, is_alive: Callable[[str], bool]) -> "Supported":
        """The same answer without the kinds of dead networks; itself where none is dead."""
        entries = [entry for entry in self.document["kinds"] if is_alive(_network(entry))]
        if len(entries) == len(self.document["kinds"]):
            return self
        return _supported({**self.document, "kinds": entries})


def read_supported(status: int, body: bytes) -> Supported | None:
    """A good answer, or None: not 200, not JSON, without a list of kinds, or with more than MAX_ENTRIES."""
    if status != 200:
        return None
    try:
        document = orjson.loads(body)
        orjson.dumps(document)  # what is nested too deeply to be written again cannot be merged
    except (ValueError, TypeError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("kinds"), list):
        return None
    return _supported(document, body) if _entries(document) <= MAX_ENTRIES else None


def _entries(document: dict[str, Any]) -> int:
    signers = document.get("signers")
    tables = [*signers.values(), list(signers)] if isinstance(signers, dict) else []
    lists = [document["kinds"], document.get("extensions"), *tables]
    return sum(len(one) for one in lists if isinstance(one, list))


def _supported(document: dict[str, Any], body: bytes | None = None) -> Supported:
    read = (_kind(entry) for entry in document["kinds"])
    named = {kind for kind in read if kind is not None}
    kinds = _in_any_version(named)
    families = _in_any_version(
        (version, scheme, network[:-1]) for version, scheme, network in named if network.endswith("*")
    )
    return Supported(
        orjson.dumps(document) if body is None else body,
        document,
        kinds,
        families,
        max((len(prefix) for _, _, prefix in families), default=-1),
        frozenset(as_signer(address) for address in _addresses(document)),
    )


def _in_any_version(kinds: Iterable[Kind]) -> frozenset[AnyKind]:
    return frozenset(each for kind in kinds for each in (kind, (None, kind[1], kind[2])))


def as_signer(address: str) -> str:
    """An address as `signers` holds it: hex compares without case, base58 does not."""
    return address.lower() if address[:2] in ("0x", "0X") else address


def _addresses(document: dict[str, Any]) -> Iterator[str]:
    """v2 lists them by family; what pays the fees on Solana stands in the kind as well, also in v1."""
    for entry in document["kinds"]:
        match entry:
            case {"extra": {"feePayer": str(address)}}:
                yield address
    match document.get("signers"):
        case dict(table):
            lists = [listed for listed in table.values() if isinstance(listed, list)]
            yield from (address for listed in lists for address in listed if isinstance(address, str))


def _network(entry: object) -> str:
    kind = _kind(entry)
    return kind[2] if kind else ""


def _kind(entry: object) -> Kind | None:
    match entry:
        case {"x402Version": int(version), "scheme": str(scheme), "network": str(network)}:
            return version, scheme, V1_NAMES.get(network, network)
        case _:
            return None


def merge(answers: Sequence[Supported]) -> bytes:
    """One answer for all; the first facilitator's word goes first. A single one stays byte for byte."""
    if len(answers) == 1:
        return answers[0].body
    document = dict(answers[0].document)
    document["kinds"] = _merged_kinds(answers)
    lists = [answer.document.get("extensions") for answer in answers]
    document["extensions"] = _joined(lists)
    tables = [table for answer in answers if isinstance(table := answer.document.get("signers"), dict)]
    names = dict.fromkeys(name for table in tables for name in table)
    document["signers"] = {name: _joined([table.get(name) for table in tables]) for name in names}
    return orjson.dumps(document)


def _merged_kinds(answers: Sequence[Supported]) -> list[Any]:
    """The first facilitator that names a kind describes it (`extra` included)."""
    found: dict[object, Any] = {}
    for answer in answers:
        for entry in answer.document["kinds"]:
            found.setdefault(_kind(entry) or orjson.dumps(entry, option=orjson.OPT_SORT_KEYS), entry)
    return list(found.values())


def _joined(lists: Sequence[object]) -> list[Any]:
    """Lists one after the other, each entry once."""
    entries = [entry for one in lists if isinstance(one, list) for entry in one]
    return list({orjson.dumps(entry, option=orjson.OPT_SORT_KEYS): entry for entry in entries}.values())
