"""The store in Redis as a whole: every record in turn, and whether the indexes agree. Writes nothing.

Walking goes by SCAN's cursors over the set of all records, one bucket after the other: whatever stands
there all the time is met, though perhaps twice. Other guardians may write meanwhile, so a record is held
against its index entries in one step on the server, and only if it has not moved since it was read.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from guardian.settlement.record import Settlement
from guardian.settlement.states import Money
from guardian.store.protocol import Condition, Scanned, Unreadable
from guardian.store.redis_fit import SETTINGS, judge, look
from guardian.store.redis_keys import Bucket, Keys, places, purchase_of, token_of
from guardian.store.redis_link import Link
from guardian.store.redis_scripts import COUNT, ENTRIES, INSPECT

STEP = 200
"""Records read in one round trip: some hundred kB."""

INSPECTED = 50
"""Records in one step on the server, which does nothing else meanwhile: a millisecond."""

NAMES = 1000
"""Keys that a server looks at in one step, of whatever kind: some hundred microseconds."""

FAULTS_TOLD = 20

_decoder = msgspec.json.Decoder(Settlement)


def pairs(flat: Sequence[Any] | dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """Redis's flat list of names and values; some replies come as pairs or as a table already."""
    if isinstance(flat, dict):
        return flat.items()
    if flat and isinstance(flat[0], tuple):
        return flat
    return zip(flat[::2], flat[1::2], strict=True)


async def scan(link: Link, keys: Keys, after: str, limit: int) -> Scanned:
    """The records behind a place, `<bucket>:<cursor>`, and the next place."""
    number, _, cursor = (after or "0:0").partition(":")
    bucket = keys.buckets[int(number)]
    names, cursor = await _walked(link, bucket.created, cursor, limit)
    found: list[Settlement | Unreadable] = []
    for key, (data, _) in zip(names, await _stored(link, bucket, names), strict=True):
        if data is not None:
            found.append(_read(key, data))
    place = f"{number}:{cursor}" if cursor != "0" else f"{int(number) + 1}:0"
    return found, "" if place == f"{len(keys.buckets)}:0" else place


async def each_record(link: Link, keys: Keys) -> AsyncIterator[tuple[Bucket, bytes, bytes]]:
    """Every record as it is stored, with its token and where it lies."""
    for bucket in keys.buckets:
        cursor = ""
        while cursor != "0":
            names, cursor = await _walked(link, bucket.created, cursor or "0", STEP)
            for data, token in await _stored(link, bucket, names):
                if data is not None:
                    yield bucket, data, token


async def disagreements(link: Link, keys: Keys, records: Sequence[Settlement]) -> list[str]:
    """What the indexes say otherwise of these records."""
    buckets: dict[Bucket, list[Settlement]] = {}
    for record in records:
        buckets.setdefault(keys.of(record.key), []).append(record)
    parts = [
        (bucket, held[at : at + INSPECTED])
        for bucket, held in buckets.items()
        for at in range(0, len(held), INSPECTED)
    ]
    found = await link.ask([_inspection(bucket, part) for bucket, part in parts])
    held_against = (
        (record, answer)
        for (_, part), answers in zip(parts, found, strict=True)
        for record, answer in zip(part, answers, strict=True)
    )
    said = ((record, _wrong(record, *answer)) for record, answer in held_against)
    return [
        f"{record.id}: these indexes do not say what the record says: {', '.join(wrong)}"
        for record, wrong in said
        if wrong
    ]


def _sets(bucket: Bucket) -> dict[str, str]:
    sets = {"created": bucket.created, "open": bucket.open, "orphans": bucket.orphans, "done": bucket.done}
    return sets | {f"money:{state}": bucket.money(state) for state in Money}


def _inspection(bucket: Bucket, records: Sequence[Settlement]) -> tuple[object, ...]:
    sets = tuple(_sets(bucket).values())
    names = [bucket.ids, *sets]
    for record in records:
        names += (bucket.record(record.key), bucket.purchase(purchase_of(record)))
    asked = (word for record in records for word in (record.key, record.id))
    return ("EVAL", INSPECT.text, len(names), *names, len(sets), *asked)


def _wrong(
    record: Settlement, token: bytes | None, key: bytes | None, purchase: bytes | None, flags: bytes
) -> list[str]:
    """The indexes that do not agree with it; none of a record that has moved since it was read."""
    if token is None or token.decode() != token_of(record):
        return []
    wanted, names = _wanted(record), _sets(Bucket(""))
    stood = zip(names, flags.decode(), strict=True)
    wrong = [name for name, flag in stood if (flag == "1") is not (name in wanted)]
    wrong += ["ids"] if key is None or key.decode() != record.key else []
    stands = purchase.decode() if purchase is not None else ""
    return wrong + (["purchase"] if stands != purchase_entry(record) else [])


def _wanted(record: Settlement) -> set[str]:
    """The sets that it should stand in."""
    flags = zip(("open", "orphans", "done"), places(record), strict=False)
    return {"created", f"money:{record.money}", *(name for name, flag in flags if flag == "1")}


def purchase_entry(record: Settlement) -> str:
    """What stands for it in its purchase's hash; "" for nothing."""
    found = places(record)
    return found[4] + record.resource if found[3] == "1" else ""


async def look_at_whole(link: Link, keys: Keys, schema: int) -> Condition:
    """The servers' settings, and whether the buckets are whole."""
    faults, doubts, settings = list[str](), list[str](), dict[str, str]()
    for server in await look(link):
        refusal, warned = judge(server, link.address)
        faults += [refusal] if refusal else []
        doubts += warned
        said = (server.appendonly, server.appendfsync, server.eviction, server.min_replicas)
        settings |= dict(zip(SETTINGS, said, strict=True))
    for bucket in keys.buckets:
        faults += await _counted(link, bucket)
        faults += await _dangling(link, bucket)
    if len(faults) < FAULTS_TOLD:
        faults += await _stray(link, keys)
    return Condition("redis", schema, settings, tuple(faults[:FAULTS_TOLD]), tuple(dict.fromkeys(doubts)))


async def _counted(link: Link, bucket: Bucket) -> list[str]:
    """As many ids as records, as many records in all states."""
    sets = (bucket.created, *(bucket.money(state) for state in Money))
    (found,) = await link.ask([("EVAL", COUNT.text, 1 + len(sets), bucket.ids, *sets)])
    ids, created, *states = found
    if ids == created == sum(states):
        return []
    return [f"{bucket.tag}: {created} records, {ids} ids and {sum(states)} entries by money do not agree"]


async def _dangling(link: Link, bucket: Bucket) -> list[str]:
    """Entries without a record, in the sets that are worked through."""
    said = []
    for name in (bucket.open, bucket.orphans, bucket.done):
        cursor = ""
        while cursor != "0":
            members, cursor = await _walked(link, name, cursor or "0", STEP)
            there = await link.ask([("EXISTS", bucket.record(key)) for key in members])
            lost = [key for key, exists in zip(members, there, strict=True) if not exists]
            # A record that was pruned meanwhile has taken its entry with it.
            left = await link.ask([("ZSCORE", name, key) for key in lost])
            said += [f"{name}: {key} is no record" for key, score in zip(lost, left, strict=True) if score]
    return said


async def _stray(link: Link, keys: Keys) -> list[str]:
    """Entries of purchases that no record has, or one of another purchase: they could block a payment for
    ever. What a record's own entry says is looked at with the record."""
    said = dict[str, None]()
    async for names in link.named(keys.purchases, NAMES):
        ours = [(bucket, name) for name in names if (bucket := keys.bucket_of_purchase(name)) is not None]
        for at in range(0, len(ours), INSPECTED):
            looks = (_stray_in(link, bucket, name) for bucket, name in ours[at : at + INSPECTED])
            for found in await asyncio.gather(*looks):
                said |= dict.fromkeys(found)
        if len(said) >= FAULTS_TOLD:
            break
    return list(said)


async def _stray_in(link: Link, bucket: Bucket, purchase: str) -> list[str]:
    said, cursor = list[str](), ""
    while cursor != "0":
        members, cursor = await _walked(link, purchase, cursor or "0", STEP, "HSCAN")
        for at in range(0, len(members), INSPECTED):
            part = members[at : at + INSPECTED]
            records = [bucket.record(key) for key in part]
            (held,) = await link.ask([("EVAL", ENTRIES.text, 1 + len(part), purchase, *records, *part)])
            for key, (entry, data) in zip(part, held, strict=True):
                why = _why_stray(bucket, purchase, key, data) if entry is not None else ""
                said += [f"{purchase}: {key} {why}"] if why else []
    return said


def _why_stray(bucket: Bucket, purchase: str, key: str, data: bytes | None) -> str:
    if data is None:
        return "is no record"
    record = _read(key, data)
    if isinstance(record, Unreadable) or bucket.purchase(purchase_of(record)) == purchase:
        return ""
    return "is a record of another purchase"


async def _walked(link: Link, name: str, cursor: str, limit: int, by: str = "ZSCAN") -> tuple[list[str], str]:
    """Members of a set, or fields of a hash, behind a cursor, and the next one, `0` at the end."""
    ((cursor_after, members),) = await link.ask([(by, name, cursor, "COUNT", limit)])
    said = cursor_after.decode() if isinstance(cursor_after, bytes) else str(cursor_after)
    return [member.decode() for member, _ in pairs(members)], said


async def _stored(link: Link, bucket: Bucket, names: Sequence[str]) -> list[tuple[bytes | None, bytes]]:
    """Data and token of each; None where there is no such record."""
    found = await link.ask([("HMGET", bucket.record(key), "data", "token") for key in names])
    return [(data, token) for data, token in found]


def _read(key: str, data: bytes) -> Settlement | Unreadable:
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as fault:
        return Unreadable(key, str(fault))
