"""All records of a store as lines of JSON, and lines back into a store of any kind. No files here.

The first line names the format, each further one holds a record, the last one their number, so that a
file that ends early is noticed. A body holds a signature, so it is written only where that is asked for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

import msgspec

from guardian.errors import GuardianError, StaleRecord, StoreUnavailable
from guardian.settlement.record import EVENTS_KEPT, Settlement
from guardian.settlement.sound import contradictions
from guardian.settlement.states import OPEN, Money
from guardian.store.ledger import LISTED, MAX_PAPERS
from guardian.store.protocol import Condition, Store, Unreadable, is_open
from guardian.wire.names import public_id

FORMAT = 1
STEP = 200
"""Records under way at once: some hundred kB, and enough of them to share a commit."""

FAULTS_KEPT = 100
"""Told one by one; beyond them only counted."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. bodies: whether the signed requests are included; at: Unix seconds."""

    guardian_export: int
    bodies: bool
    at: float


class Footer(msgspec.Struct, frozen=True):
    """The last line: how many records stand before it."""

    records: int


class Put(StrEnum):
    """What became of one record of a file."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    NEWER = "newer here"  # left as it is
    CONFLICT = "in conflict"  # left as it is: neither came from the other


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What an export does not hold. budgets: of now; papers: by name; events: for webhooks."""

    budgets: int
    papers: tuple[str, ...]
    events: int


async def left_out(store: Store, at: float) -> LeftOut:
    """What else stands in a store. at: Unix seconds."""
    budgets = [budget for budget in await store.ledger.budgets() if budget.ends_at > at]
    papers: list[str] = []
    for _ in range(MAX_PAPERS // LISTED + 1):
        page = await store.ledger.papers("", max(papers, default=""))
        papers += page
        if len(page) < LISTED:
            break
    counts = [await store.notices.count(hook) for hook in await store.notices.hooks()]
    return LeftOut(len(budgets), tuple(papers), sum(map(sum, counts)))


async def written(
    store: Store, *, bodies: bool, at: float, unreadable: list[Unreadable]
) -> AsyncIterator[bytes]:
    """The lines of an export; what cannot be read is left out of it and put into `unreadable`."""
    encoder, count = msgspec.json.Encoder(), 0
    yield encoder.encode(Header(guardian_export=FORMAT, bodies=bodies, at=at)) + b"\n"
    async for records in _steps(store):
        for record in records:
            if isinstance(record, Unreadable):
                unreadable.append(record)
                continue
            shown = record if bodies else msgspec.structs.replace(record, body=b"")
            yield encoder.encode(shown) + b"\n"
            count += 1
    yield encoder.encode(Footer(count)) + b"\n"


async def _steps(store: Store) -> AsyncIterator[list[Settlement | Unreadable]]:
    after = ""
    while True:
        records, after = await store.scan(after, STEP)
        yield list(records)
        if not after:
            return


@dataclass(slots=True)
class Imported:
    """What came of an import. bodiless: open records that came without their signed request."""

    counts: Counter[Put] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    bodiless: int = 0


async def read_into(store: Store, lines: Iterable[bytes], *, dry_run: bool = False) -> Imported:
    """Put the records of an export into a store; again changes nothing more.

    Raises GuardianError where the lines are no whole export; what stood before the fault is in the store.
    """
    if alive := await store.holders("replica/"):
        raise GuardianError(f"--store: in use by running guardians ({len(alive)}); stop them first")
    numbered = enumerate(lines, 1)
    header = _header(next(numbered, (1, b""))[1])
    done, footer = Imported(), None
    while batch := list(islice(numbered, STEP)):
        records = []
        for number, line in batch:
            if footer is not None:
                raise NotAnExport(f"line {number}: the export has ended before; is it two files in one?")
            read = _read(number, line)
            if isinstance(read, Footer):
                footer = read
            else:
                records.append(read)
        puts = await asyncio.gather(*(_put(store, header, record, dry_run) for record in records))
        for record, put in zip(records, puts, strict=True):
            done.counts[put] += 1
            done.bodiless += put is Put.CREATED and record.money in OPEN and not record.body
            if put is Put.CONFLICT and len(done.conflicts) < FAULTS_KEPT:
                done.conflicts.append(record.id)
    if footer is None or footer.records != done.counts.total():
        raise NotAnExport("the export ends early: it was cut off; make it again")
    return done


class NotAnExport(GuardianError):
    """What was given is not, or no longer, what an export wrote."""


def _header(line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.MsgspecError as fault:
        raise NotAnExport("line 1: not an export of `guardian store export`") from fault
    if header.guardian_export != FORMAT:
        raise NotAnExport(
            f"line 1: an export of format {header.guardian_export}; {FORMAT} is read here, use a newer one"
        )
    return header


_record_decoder = msgspec.json.Decoder(Settlement)


def _read(number: int, line: bytes) -> Settlement | Footer:
    try:
        if line.startswith(b'{"records":'):
            return msgspec.json.decode(line, type=Footer)
        record = _record_decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise NotAnExport(f"line {number}: not a record of an export ({fault})") from fault
    if record.id != public_id(record.key):  # it would be found by the one and not by the other
        raise NotAnExport(f"line {number}: the id {record.id} is not that of the key {record.key}")
    return record


async def _put(store: Store, header: Header, record: Settlement, dry_run: bool) -> Put:
    held = await store.get(record.key)
    if held is None:
        if dry_run:
            return Put.CREATED
        claim = await store.claim(record)
        if claim.created and claim.record == record:
            return Put.CREATED
        held = claim.record
    if not header.bodies and not record.body:
        record = msgspec.structs.replace(record, body=held.body)
    put = _compared(held, record)
    if put in (Put.CREATED, Put.UPDATED) and not dry_run:
        try:
            await store.update(held, record)
        except StaleRecord as fault:
            raise StoreUnavailable("somebody else writes to this store; stop the guardians first") from fault
    return put


def _compared(held: Settlement, record: Settlement) -> Put:
    """What to do about a record that is there already. CREATED: it stands half made, as a claim behind
    another payment of its purchase stores it, by this import or one that broke off."""
    if held == record:
        return Put.UNCHANGED
    if held == msgspec.structs.replace(record, money=Money.IDLE):
        return Put.CREATED
    if held.created_at != record.created_at:
        return Put.NEWER if held.created_at > record.created_at else Put.CONFLICT
    if held.version != record.version and _leads_to(*sorted((held, record), key=lambda one: one.version)):
        return Put.UPDATED if held.version < record.version else Put.NEWER
    return Put.CONFLICT


def _leads_to(older: Settlement, newer: Settlement) -> bool:
    """Whether the older one's audit trail goes on in the newer one's."""
    cut = len(newer.events) >= EVENTS_KEPT
    return not older.events or older.events[-1] in newer.events or cut


@dataclass(slots=True)
class Checked:
    """What a check of a store has found. faults: the first of them; found: all."""

    condition: Condition
    records: int = 0
    open: int = 0
    orphans: int = 0
    money: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    found: int = 0

    def add(self, faults: Iterable[str]) -> None:
        """Count faults, and keep the first."""
        for fault in faults:
            self.found += 1
            if len(self.faults) < FAULTS_KEPT:
                self.faults.append(fault)


async def checked(store: Store) -> Checked:
    """Look at every record and at the store as a whole; changes nothing."""
    done = Checked(await store.condition())
    done.add(done.condition.faults)
    async for step in _steps(store):
        records = [record for record in step if isinstance(record, Settlement)]
        done.add(f"{one.key}: cannot be read: {one.why}" for one in step if isinstance(one, Unreadable))
        done.records += len(step)
        done.open += sum(map(is_open, records))
        done.orphans += sum(record.orphan for record in records)
        done.money.update(str(record.money) for record in records)
        done.add(_impossible(records))
        done.add(await store.disagreements(records))
    return done


def _impossible(records: Iterable[Settlement]) -> Iterator[str]:
    for record in records:
        for said in contradictions(record):
            yield f"{record.id}: {said}"
