"""The store's own key and the buckets' stamps: made once, checked at every start, upgraded in place.

The store's hash says its id, its schema and whether it is complete; each bucket's stamp repeats schema
and id, and every script refuses to write without it. So a server that came back empty, a lost part of a
Cluster and a newer guardian's upgrade are noticed before a payment is taken for new.
"""

import secrets
from collections.abc import Awaitable, Callable

import msgspec

from guardian.errors import StoreUnavailable
from guardian.settlement.record import Settlement
from guardian.store.protocol import is_open
from guardian.store.redis_keys import BUCKETS, SCHEMA, Keys, purchase_of
from guardian.store.redis_link import Link
from guardian.store.redis_look import each_record, purchase_entry
from guardian.store.redis_scripts import REOPEN

Upgrade = Callable[[Link, Keys, str], Awaitable[None]]


async def _more_is_open(link: Link, keys: Keys, stamp: str) -> None:
    """Schema 2: paid records whose caller was told nothing stand among the open ones, and those that are
    being sent beside those of their purchase. Records may also be closed (refunded, written off), which an
    older guardian would drop from them."""
    async for bucket, data, token in each_record(link, keys):
        try:
            record = msgspec.json.decode(data, type=Settlement)
        except msgspec.MsgspecError:
            continue  # no index helps with it; `guardian store check` names it
        opened, entry = "01"[is_open(record)], purchase_entry(record)
        if is_open(record) or entry:
            names = (
                bucket.stamp,
                bucket.record(record.key),
                bucket.open,
                bucket.purchase(purchase_of(record)),
            )
            values = (stamp, record.key, token, repr(record.created_at), opened, entry)
            await link.run(REOPEN, names, values)


UPGRADES: tuple[Upgrade, ...] = (_more_is_open,)
"""Step n leads from schema n+1 to n+2, and may run twice. The new stamps stand by then, so that no older
guardian writes behind its back; another new one may."""


def stamp_of(store_id: str) -> str:
    """What stands in every bucket of a store."""
    return f"{SCHEMA}:{store_id}"


async def schema_of(link: Link, keys: Keys) -> int:
    """The schema of a store that is there; raises StoreUnavailable where none is."""
    found = await _facts(link, keys)
    if found.get("state") != "ready":
        raise StoreUnavailable(f"{keys.store}: there is no store of this prefix")
    return _number(found.get("schema", ""))


async def readable_store(link: Link, keys: Keys) -> None:
    """Raise StoreUnavailable where there is no store that can be read as it is, without an upgrade."""
    schema = await schema_of(link, keys)
    if schema != SCHEMA:
        raise StoreUnavailable(
            f"{keys.store}: has schema {schema}, this guardian reads {SCHEMA}; an older one is upgraded"
            " by the next start of `guardian serve`, a newer one is read by the newer guardian"
        )
    await _whole(link, keys, (await _facts(link, keys))["id"])


async def ready_store(link: Link, keys: Keys) -> str:
    """The store's id, everything in place; raises StoreUnavailable."""
    found = await _facts(link, keys)
    if found.get("state") == "ready":
        schema = _number(found.get("schema", ""))
        if schema > SCHEMA:
            raise StoreUnavailable(
                f"{keys.store}: written by a newer guardian (schema {schema}, this one knows {SCHEMA});"
                " run that version, or name another prefix"
            )
        if found.get("buckets") != str(BUCKETS):
            raise StoreUnavailable(f"{keys.store}: has {found.get('buckets')} buckets, not {BUCKETS}")
        if schema < SCHEMA:
            await _upgrade(link, keys, schema, found["id"])
        return await _whole(link, keys, found["id"])
    return await _made(link, keys)


async def _facts(link: Link, keys: Keys) -> dict[str, str]:
    (reply,) = await link.ask([("HGETALL", keys.store)])
    return {name.decode(): value.decode() for name, value in reply.items()}


async def _made(link: Link, keys: Keys) -> str:
    """Make a new store, or finish what a crash or another guardian has begun: all agree on one id."""
    await link.ask([("HSETNX", keys.store, "id", secrets.token_hex(8))])
    store_id = (await _facts(link, keys))["id"]
    await link.ask([("SET", bucket.stamp, stamp_of(store_id), "NX") for bucket in keys.buckets])
    facts = {"schema": SCHEMA, "buckets": BUCKETS, "state": "ready"}
    await link.ask([("HSETNX", keys.store, name, value) for name, value in facts.items()])
    return await _whole(link, keys, store_id)


async def _whole(link: Link, keys: Keys, store_id: str) -> str:
    stamps = await link.ask([("GET", bucket.stamp) for bucket in keys.buckets])
    missing = sum(stamp is None or stamp.decode() != stamp_of(store_id) for stamp in stamps)
    if missing:
        raise StoreUnavailable(
            f"{keys.store}: {missing} of {BUCKETS} parts of the store are gone or of another store;"
            " restore a backup, or name another prefix"
        )
    return store_id


async def _upgrade(link: Link, keys: Keys, schema: int, store_id: str) -> None:
    """From an older schema, step by step. Older guardians stop writing with the new stamps."""
    await link.ask([("SET", bucket.stamp, stamp_of(store_id)) for bucket in keys.buckets])
    for step in UPGRADES[schema - 1 :]:
        await step(link, keys, stamp_of(store_id))
    await link.ask([("HSET", keys.store, "schema", SCHEMA)])


def _number(text: str) -> int:
    if not text.isdigit():
        raise StoreUnavailable("the store's schema is no number: another program's key?")
    return int(text)
