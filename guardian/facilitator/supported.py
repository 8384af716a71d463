"""What facilitators say they support, as a view over their /supported bytes. No I/O.

Shapes: x402 v1 has only `kinds`, v2 adds `extensions` and `signers`. Read tolerantly: what cannot
be read filters nothing out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from guardian.wire.networks import V1_NAMES


@dataclass(frozen=True, slots=True)
class Supported:
    """One facilitator's last good answer: its bytes, and the kinds found in them.

    kinds: (x402 version, scheme, network as CAIP-2 where the v1 name is known).
    """

    body: bytes
    document: dict[str, Any]
    kinds: frozenset[tuple[int, str, str]]

    def serves(self, network: str, scheme: str, x402_version: int | None) -> bool:
        """Whether one kind matches; `eip155:*` matches every EVM chain, a version of None all of them."""
        return any(
            kind_scheme == scheme and x402_version in (None, version) and _matches(kind_network, network)
            for version, kind_scheme, kind_network in self.kinds
        )


def _matches(kind_network: str, network: str) -> bool:
    if kind_network.endswith("*"):
        return network.startswith(kind_network[:-1])
    return kind_network == network


def read_supported(status: int, body: bytes) -> Supported | None:
    """A good answer, or None: not 200, not JSON, or without a list of kinds."""
    if status != 200:
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("kinds"), list):
        return None
    kinds = (_kind(entry) for entry in document["kinds"])
    return Supported(body, document, frozenset(kind for kind in kinds if kind is not None))


def _kind(entry: object) -> tuple[int, str, str] | None:
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
