"""The layout of the keys in Redis: which key holds what, and in which slot. No I/O. See docs/redis.md.

A store is divided into BUCKETS; all keys of one bucket share a hash tag, so in a Cluster they lie in
one slot and one script may move a record together with every index entry it has. Which bucket a record
lies in follows from its key alone; which buckets a purchase may lie in, from its network and payer.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from guardian.settlement.purchase import blocks, is_disposable, is_unsettled_purchase
from guardian.settlement.record import FACILITATOR, Settlement
from guardian.settlement.states import Money
from guardian.store.protocol import is_open

SCHEMA = 2
"""The layout's version, part of every bucket's stamp. Raised with a step in redis_schema.UPGRADES."""

BUCKETS = 16
"""Spreads a store over as many nodes at most; what looks at everything asks each bucket once."""

# Keys of EIP-3009 and Permit2 show their payer: network/asset/payer/nonce, network/permit2/payer/nonce.
_SHOWS_PAYER = re.compile(
    r"(?P<network>.+)/(?:0x[0-9a-f]{40}|permit2)/(?P<payer>0x[0-9a-f]{40})/(?:0x[0-9a-f]{64}|[0-9]+)",
    re.DOTALL,
)
_PURCHASE = ":purchase:"


def bucket_of_key(key: str) -> int:
    """The bucket of a record; a key that shows no payer lies in the network's one for those."""
    shown = _SHOWS_PAYER.fullmatch(key)
    return _of_payer(shown["network"], shown["payer"]) if shown else _of_network(key)


def buckets_of_purchase(network: str, payer: str) -> tuple[int, ...]:
    """Where the records of a purchase may lie: one bucket or two."""
    return tuple({_of_payer(network, payer): None, _of_network(network): None})


def _of_payer(network: str, payer: str) -> int:
    return _digest(f"{network}/{payer}")[0] % BUCKETS


def _of_network(text: str) -> int:
    """By the first part of a key, or of a network's name, which may itself hold a slash."""
    return _digest(text.partition("/")[0])[0] % BUCKETS


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Bucket:
    """The names of one bucket's keys.

    stamp: the schema and the store's id, without which no script writes. ids: id → key. The sets hold
    keys of records by time: created and money by created_at (pages), open and orphans by created_at,
    done (what may be pruned) by updated_at.
    """

    tag: str

    @property
    def stamp(self) -> str:
        return f"{self.tag}:stamp"

    @property
    def beat(self) -> str:
        return f"{self.tag}:beat"

    @property
    def ids(self) -> str:
        return f"{self.tag}:ids"

    @property
    def created(self) -> str:
        return f"{self.tag}:created"

    @property
    def open(self) -> str:
        return f"{self.tag}:open"

    @property
    def orphans(self) -> str:
        return f"{self.tag}:orphans"

    @property
    def done(self) -> str:
        return f"{self.tag}:done"

    @property
    def notices(self) -> str:
        return f"{self.tag}:notices"

    def hook(self, name: str) -> str:
        """Events of a webhook that are to be sent."""
        return f"{self.tag}:hook:{name}"

    def dead(self, name: str) -> str:
        """Events of a webhook that are not sent any more."""
        return f"{self.tag}:dead:{name}"

    def ledger(self, book: str) -> str:
        """Of the ledger, which lies in the first bucket alone."""
        return f"{self.tag}:ledger:{book}"

    def money(self, state: str) -> str:
        return f"{self.tag}:money:{state}"

    def record(self, key: str) -> str:
        return f"{self.tag}:record:{key}"

    def purchase(self, purchase: Sequence[object]) -> str:
        """Of (network, payer, pay_to, asset, amount): a hash from key to whether it blocks, and what."""
        digest = _digest(msgspec.json.encode([str(part) for part in purchase]).decode())
        return f"{self.tag}{_PURCHASE}{digest[:16].hex()}"


class Keys:
    """All names of one store, below its prefix."""

    def __init__(self, prefix: str) -> None:
        self.store = f"{prefix}:store"
        self.leases = f"{prefix}:{{{prefix}/leases}}"
        self.buckets = tuple(Bucket(f"{prefix}:{{{prefix}/{number:02d}}}") for number in range(BUCKETS))
        self.channels = f"{prefix}/*"
        self._prefix = prefix

    def of(self, key: str) -> Bucket:
        """The bucket of a record."""
        return self.buckets[bucket_of_key(key)]

    def of_purchase(self, network: str, payer: str) -> list[Bucket]:
        return [self.buckets[number] for number in buckets_of_purchase(network, payer)]

    @property
    def purchases(self) -> str:
        """What the names of all purchases' hashes match; nothing in a prefix is special to Redis there."""
        return f"{self._prefix}:{{{self._prefix}/??}}{_PURCHASE}*"

    def bucket_of_purchase(self, name: str) -> Bucket | None:
        """The bucket of such a hash; None for one that is not of this store."""
        bucket = Bucket(name.rpartition(_PURCHASE)[0])
        return bucket if bucket in self.buckets else None

    def channel(self, store_id: str, topic: str) -> str:
        """Pub/sub knows no database numbers, so the store's id is part of the name."""
        return f"{self._prefix}/{store_id}/{topic}"


def purchase_of(record: Settlement) -> tuple[str, str, str, str, int]:
    """Agents' payments stand by themselves, in the bucket that their key, which shows the same, lies in."""
    network = record.network if record.plane == FACILITATOR else f"{record.plane}/{record.network}"
    return (network, record.payer, record.pay_to, record.asset, record.amount)


def token_of(record: Settlement) -> str:
    """What an update must still find. More than the version, which a record that was pruned and claimed
    anew counts from the start again; it also says which index entries there are to be removed."""
    facts = (record.version, record.created_at, record.money, record.answer, *purchase_of(record))
    return f"{record.version}:{_digest(msgspec.json.encode([str(f) for f in facts]).decode())[:12].hex()}"


def places(record: Settlement) -> str:
    """In which indexes a record stands: open, orphans, done, purchase, and whether it blocks there."""
    twin = msgspec.structs.replace(record, key="")  # the same purchase under another authorization
    facts = (
        is_open(record),
        record.orphan,
        is_disposable(record),
        is_unsettled_purchase(record) or record.money is Money.PENDING,  # blocks nobody, but is found
        blocks(record, twin),
    )
    return "".join("1" if fact else "0" for fact in facts)


def as_idle(record: Settlement) -> Settlement:
    """The form that a claim takes behind a blocking purchase."""
    return msgspec.structs.replace(record, money=Money.IDLE)


def entry_stands_beside(entry: str, resource: str) -> bool:
    """Whether an entry of a purchase's hash is of one for `resource` that blocks nobody: under way."""
    named = entry[1:]
    return entry[0] == "0" and (named == resource or not named or not resource)


def entry_blocks(entry: str, resource: str) -> bool:
    """Whether an entry of a purchase's hash, `1` or `0` and the resource, blocks one for `resource`.
    The claim's script asks the same."""
    named = entry[1:]
    return entry[0] == "1" and (named == resource or not named or not resource)
