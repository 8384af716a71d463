"""The shared store: records in Redis, for several guardians at once. See docs/redis.md.

What moves together moves in one script on the server; names of keys are in redis_keys, connections and
deadlines in redis_link, the scripts in redis_scripts. Reading takes two steps (an index, then its
records), so what was read is held against the question once more: an index entry is no proof.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.settlement.notice import Notice
from guardian.settlement.purchase import blocks, is_disposable, is_under_way, is_unsettled_purchase
from guardian.settlement.record import Settlement
from guardian.store.protocol import PAGE_LIMIT, Claim, Condition, Scanned, is_open
from guardian.store.redis_fit import check_servers
from guardian.store.redis_keys import (
    Bucket,
    Keys,
    as_idle,
    entry_blocks,
    entry_stands_beside,
    places,
    purchase_of,
    token_of,
)
from guardian.store.redis_ledger import RedisLedger
from guardian.store.redis_link import Link, unavailable
from guardian.store.redis_look import disagreements, look_at_whole, pairs, scan
from guardian.store.redis_news import News
from guardian.store.redis_notices import RedisNotices, told
from guardian.store.redis_schema import readable_store, ready_store, schema_of, stamp_of
from guardian.store.redis_scripts import BEAT, CLAIM, DROP, HOLDERS, LEASE, RESIGN, UPDATE, Script
from guardian.store.redis_url import RedisAddress
from guardian.store.redis_waiting import told_of_waiting
from guardian.wire.names import Address, Network

RECORD_TOPIC = "record"
"""Carries the key of every record that was claimed or updated."""

READ_STEP = 100
"""Records read at once: some hundred kB, a few milliseconds of decoding on the event loop."""

PRUNE_LIMIT = 1_000
PRUNE_STEP = 20
"""Deletions under way at once: housekeeping must not take the connections of payments."""

HOLDERS_STEP = 500
HOLDERS_LIMIT = 20_000
"""Leases listed: replicas, watchers and settles under way; far more than any store has."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Settlement)
_Times = list[tuple[float, str]]


class RedisStore:
    """A store on a Redis server, on one behind Sentinels, or in a Cluster."""

    shared = True

    def __init__(self, address: RedisAddress, *, reading: bool = False) -> None:
        """reading: only that, of a store that is there."""
        self._reading = reading
        self._keys = Keys(address.prefix)
        self._link = Link(address)
        self.notices = RedisNotices(self._link, self._keys, self._run)
        self._news = News(self._link.listener, self._touched)
        self._sender = secrets.token_hex(8)
        first = self._keys.buckets[0]
        self.ledger = RedisLedger(self._link, first, lambda *script: self._run(script[0], first, *script[1:]))
        self._stamp = self._channels = ""

    async def open(self) -> None:
        async with told_of_waiting(self._link.address):
            await self._open()

    async def _open(self) -> None:
        await self._link.open()
        try:
            if self._reading:
                return await readable_store(self._link, self._keys)
            if refusal := await check_servers(self._link):
                raise StoreUnavailable(refusal)
            store_id = await ready_store(self._link, self._keys)
            self._stamp = stamp_of(store_id)
            self._channels = self._keys.channel(store_id, "")
            await self.ping()
            pattern, sender = self._keys.channels, self._sender.encode()
            await self._news.start(pattern, self._channels, sender, self._link.address.timeout_s)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._news.stop()
        await self._link.close()

    async def ping(self) -> None:
        """A write in every bucket, so on every node that holds a part of the store."""
        message = self._message(b"")
        channel = self._channels + "beat"
        beats = (self._run(BEAT, bucket, (bucket.beat,), (channel, message)) for bucket in self._keys.buckets)
        await asyncio.gather(*beats)

    async def claim(self, new: Settlement) -> Claim:
        outcome, data = await self._write_claim(new, await self._blocked_elsewhere(new))
        record = _decode(data)
        if outcome == b"exists":
            return Claim(record, created=False)
        if outcome == b"created":
            return Claim(record, created=True)
        before = await self._purchase(purchase_of(new))
        return Claim(record, created=True, blocking=[other for other in before if blocks(other, new)])

    async def _write_claim(self, new: Settlement, blocked_elsewhere: bool) -> tuple[bytes, bytes]:
        """exists, created, blocked, or again (ours, by an earlier attempt); and the record as it stands."""
        bucket = self._keys.of(new.key)
        idle = as_idle(new)
        keys = (
            bucket.record(new.key),
            bucket.ids,
            bucket.created,
            bucket.money(new.money.value),
            bucket.money(idle.money.value),
            bucket.open,
            bucket.orphans,
            bucket.done,
            bucket.purchase(purchase_of(new)),
        )
        values = (
            secrets.token_hex(8),
            new.key,
            new.id,
            new.resource,
            "1" if blocked_elsewhere else "0",
            *self._record_news(new.key),
            repr(new.created_at),
            repr(new.updated_at),
            *(token_of(new), _encode(new), places(new)),
            *(token_of(idle), _encode(idle), places(idle)),
        )
        outcome, data = await self._run(CLAIM, bucket, keys, values)
        return outcome, data

    async def _blocked_elsewhere(self, new: Settlement) -> bool:
        """Whether a payment of the same purchase by another method stands before this one.

        It may lie in another bucket, which no script can look at together with this one. Every doubt
        that was recorded before this claim began is seen; a later one might as well have come after it.
        """
        own = self._keys.of(new.key)
        others = [other for other in self._keys.of_purchase(new.network, new.payer) if other != own]
        found = await self._link.ask([("HVALS", other.purchase(purchase_of(new))) for other in others])
        return any(entry_blocks(entry.decode(), new.resource) for entries in found for entry in entries)

    async def update(
        self, old: Settlement, new: Settlement, *, patient: bool = False, notices: Sequence[Notice] = ()
    ) -> None:
        bucket = self._keys.of(old.key)
        news_keys, news = told(bucket, notices) if notices else ((), ())
        keys = (
            bucket.record(old.key),
            bucket.created,
            bucket.money(old.money.value),
            bucket.money(new.money.value),
            bucket.open,
            bucket.orphans,
            bucket.done,
            bucket.purchase(purchase_of(old)),
            bucket.purchase(purchase_of(new)),
            *news_keys,
        )
        values = (
            secrets.token_hex(8),
            old.key,
            token_of(old),
            token_of(new),
            new.resource,
            *self._record_news(old.key),
            repr(new.created_at),
            repr(new.updated_at),
            _encode(new),
            places(new),
            *news,
        )
        (outcome,) = await self._run(UPDATE, bucket, keys, values)
        if outcome == b"stale":
            raise StaleRecord(f"{old.id} is no longer at version {old.version}")

    async def get(self, key: str) -> Settlement | None:
        found = await self._records([key])
        return found[0] if found else None

    async def get_by_id(self, id: str) -> Settlement | None:
        found = await self._link.ask([("HGET", bucket.ids, id) for bucket in self._keys.buckets])
        keys = [key.decode() for key in found if key is not None]
        return await self.get(keys[0]) if keys else None

    async def open_records(self) -> list[Settlement]:
        found = await self._link.ask([("ZRANGE", bucket.open, 0, -1) for bucket in self._keys.buckets])
        records = await self._records([key.decode() for keys in found for key in keys])
        return _oldest_first(record for record in records if is_open(record))

    async def of_purchase(
        self, network: Network, payer: Address, pay_to: Address, asset: Address, amount: int
    ) -> list[Settlement]:
        return await self._purchase((network, payer, pay_to, asset, amount))

    async def under_way(self, like: Settlement) -> list[Settlement]:
        purchase = purchase_of(like)
        buckets = self._keys.of_purchase(like.network, like.payer)
        found = await self._link.ask([("HGETALL", bucket.purchase(purchase)) for bucket in buckets])
        keys = [
            key.decode()
            for entries in found
            for key, entry in entries.items()
            if entry_stands_beside(entry.decode(), like.resource) and key != like.key.encode()
        ]
        return _oldest_first(record for record in await self._records(keys) if is_under_way(record))

    async def _purchase(self, purchase: tuple[str, str, str, str, int]) -> list[Settlement]:
        entries = await self._entries(purchase)
        return _oldest_first(record for record in entries if is_unsettled_purchase(record))

    async def _entries(self, purchase: tuple[str, str, str, str, int]) -> list[Settlement]:
        buckets = self._keys.of_purchase(purchase[0], purchase[1])
        found = await self._link.ask([("HKEYS", bucket.purchase(purchase)) for bucket in buckets])
        records = await self._records([key.decode() for keys in found for key in keys])
        return [record for record in records if purchase_of(record) == purchase]

    async def page(
        self,
        *,
        money: Sequence[str] = (),
        orphans: bool = False,
        limit: int = 100,
        before: float | None = None,
    ) -> list[Settlement]:
        limit = max(0, min(limit, PAGE_LIMIT))
        states = [str(state) for state in money]
        sought = PAGE_LIMIT if orphans and states else limit  # that index does not know the state
        times = await self._newest(states, orphans, sought, before)
        found: list[Settlement] = []
        while times and len(found) < limit:
            step, times = times[:READ_STEP], times[READ_STEP:]
            for record in await self._records([key for _, key in step]):
                if (not states or record.money in states) and (not orphans or record.orphan):
                    found.append(record)
        return found[:limit]

    async def _newest(self, states: Sequence[str], orphans: bool, limit: int, before: float | None) -> _Times:
        """(created_at, key) of the newest `limit` entries that may match, newest first."""
        if not limit:
            return []
        sets = [
            name
            for bucket in self._keys.buckets
            for name in (
                [bucket.orphans] if orphans else [bucket.money(state) for state in states] or [bucket.created]
            )
        ]
        below = "+inf" if before is None else f"({before!r}"
        question = ("-inf", "WITHSCORES", "LIMIT", 0, limit)
        replies = await self._link.ask([("ZREVRANGEBYSCORE", name, below, *question) for name in sets])
        times = [(float(at), key.decode()) for reply in replies for key, at in pairs(reply)]
        times.sort(key=lambda entry: entry[0], reverse=True)
        return times[:limit]

    async def prune(self, before: float, limit: int) -> int:
        limit = max(0, min(limit, PRUNE_LIMIT))
        if not limit:
            return 0
        below = f"({before!r}"
        question = ("-inf", below, "WITHSCORES", "LIMIT", 0, limit)
        replies = await self._link.ask(
            [("ZRANGEBYSCORE", bucket.done, *question) for bucket in self._keys.buckets]
        )
        times = sorted((float(at), key.decode()) for reply in replies for key, at in pairs(reply))
        dropped, keys = 0, [key for _, key in times[:limit]]
        for start in range(0, len(keys), PRUNE_STEP):
            records = await self._records(keys[start : start + PRUNE_STEP])
            # The rule itself has the last word, whatever the index says.
            old = [record for record in records if record.updated_at < before and is_disposable(record)]
            dropped += sum(await asyncio.gather(*(self._drop(record) for record in old)))
        return dropped

    async def _drop(self, record: Settlement) -> bool:
        """Delete what has not moved since it was read, with every trace of it in the indexes."""
        bucket = self._keys.of(record.key)
        keys = (
            bucket.record(record.key),
            bucket.ids,
            bucket.created,
            bucket.money(record.money.value),
            bucket.open,
            bucket.orphans,
            bucket.done,
            bucket.purchase(purchase_of(record)),
        )
        (outcome,) = await self._run(DROP, bucket, keys, (record.key, record.id, token_of(record)))
        return bool(outcome == b"done")

    async def scan(self, after: str, limit: int) -> Scanned:
        return await scan(self._link, self._keys, after, max(1, min(limit, PAGE_LIMIT)))

    async def disagreements(self, records: Sequence[Settlement]) -> list[str]:
        return await disagreements(self._link, self._keys, records)

    async def condition(self) -> Condition:
        return await look_at_whole(self._link, self._keys, await schema_of(self._link, self._keys))

    async def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        """The time counts from when the server heard of it; a holder counts from before it asked."""
        fence = await self._link.run(LEASE, self._lease_keys(), (name, holder, max(1, int(ttl_s * 1000))))
        return None if fence is None else int(fence)

    async def resign(self, name: str, holder: str) -> None:
        await self._link.run(RESIGN, self._lease_keys(), (name, holder))

    async def holders(self, prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        after = ""
        while len(found) < HOLDERS_LIMIT:
            last, *live = await self._link.run(HOLDERS, self._lease_keys(), (prefix, after, HOLDERS_STEP))
            found |= {name.decode(): holder.decode() for name, holder in pairs(live)}
            after = last.decode()
            if not after:
                break
        return found

    def _lease_keys(self) -> tuple[str, ...]:
        return tuple(f"{self._keys.leases}:{part}" for part in ("names", "until", "held", "fence"))

    async def tell(self, topic: str, message: bytes) -> None:
        await self._link.ask([("PUBLISH", self._channels + topic, self._message(message))])

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        self._news.listen(topic, heard)

    def lost_touch(self, called: Callable[[], None]) -> None:
        self._news.lost_touch(called)

    async def _touched(self) -> None:
        """After a failover another server is the primary: it has to be as fit as the first was."""
        try:
            self._link.refusal = await check_servers(self._link, quiet=True)
        except StoreUnavailable:
            return  # one that does not answer takes no write either
        if self._link.refusal:
            raise StoreUnavailable(self._link.refusal)

    async def _run(
        self, script: Script, bucket: Bucket, keys: Sequence[str], values: Sequence[object]
    ) -> list[Any]:
        reply: list[Any] = await self._link.run(script, (bucket.stamp, *keys), (self._stamp, *values))
        if reply[0] == b"lost":
            raise StoreUnavailable(
                "this part of the store is not what it was when it was opened: emptied, replaced or"
                " upgraded by a newer guardian; look at Redis, then restart"
            )
        return reply

    async def _records(self, keys: Sequence[str]) -> list[Settlement]:
        """Those of the keys that exist, in their order."""
        found: list[Settlement] = []
        for start in range(0, len(keys), READ_STEP):
            step = keys[start : start + READ_STEP]
            replies = await self._link.ask([("HGET", self._keys.of(key).record(key), "data") for key in step])
            found += [_decode(data) for data in replies if data is not None]
        return found

    def _record_news(self, key: str) -> tuple[str, bytes]:
        return self._channels + RECORD_TOPIC, self._message(key.encode())

    def _message(self, message: bytes) -> bytes:
        return self._sender.encode() + b" " + message


def _oldest_first(records: Iterable[Settlement]) -> list[Settlement]:
    return sorted(records, key=lambda record: record.created_at)


def _encode(record: Settlement) -> bytes:
    try:
        return _encoder.encode(record)
    except (ValueError, TypeError) as exc:  # text that is no Unicode: it cannot be recorded
        raise unavailable(exc) from exc


def _decode(data: bytes) -> Settlement:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:  # ValueError: text that is no UTF-8
        raise unavailable(exc) from exc
