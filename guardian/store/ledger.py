"""What is counted against budgets, in the same store as the records: holds, and papers. No policy here.

A hold says that a payment (by its record's key) is counted against so many budgets, all of them or none.
It stands until it is released, which takes proof, or until the last of its budgets is over. Papers are
small texts that change by compare-and-set; a hold may depend on some and change them in the same step.

One algorithm over two kinds of books, those in memory and those in SQLite; Redis has it as a script.
"""

from dataclasses import dataclass
from typing import Protocol

import msgspec

MAX_PAPERS = 10_000
"""Whoever asks for approvals may fill no disk. What stands FOREVER is an operator's, and always fits."""

TRIM = 50
"""Of what is over, this much goes with each new hold: more than one hold brings."""

FOREVER = 1e12
"""An end that nothing reaches, in Unix seconds."""

STOP = "stop"
"""The paper that stands while a person has stopped all spending."""

LISTED = 1000
"""The most that one list gives."""


class Line(msgspec.Struct, frozen=True):
    """One budget that a payment is counted against. budget: its name, of which its window is a part;
    limit: what may be counted there in all; ends_at: Unix seconds, when it may be forgotten. Decimal
    texts, because amounts have 256 bits."""

    budget: str
    amount: str
    limit: str
    ends_at: float


class Swap(msgspec.Struct, frozen=True):
    """A paper as it must be, and as it is from then on; "" for none. Where both are the same it is only
    a condition."""

    name: str
    old: str
    new: str


class Ask(msgspec.Struct, frozen=True):
    """A hold that is asked for. token: a new one each time, by which a release names the hold that it saw;
    of: a name of what is held: one hold is never taken for another of the same key."""

    key: str
    token: str
    at: float
    lines: tuple[Line, ...] = ()
    swaps: tuple[Swap, ...] = ()
    of: str = ""

    @property
    def ends_at(self) -> float:
        """When nothing is counted any more."""
        return max((line.ends_at for line in self.lines), default=self.at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """held: it is counted, now or from before. Else over: the place of the line that it does not fit into,
    with what is counted there; or changed: the name of a paper that is not as it must be, or the key,
    which is held of something else."""

    held: bool = False
    over: int | None = None
    counted: int = 0
    changed: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that stands. at: Unix seconds, when it was last asked for."""

    key: str
    token: str
    at: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What is counted in one budget."""

    name: str
    counted: int
    ends_at: float


class Ledger(Protocol):
    """Every method raises StoreUnavailable; what writes returns once it is durable."""

    async def hold(self, ask: Ask) -> Outcome:
        """Count a payment against all its budgets, or against none. One that is held already is not
        counted again; its token and time are the new ones from then on."""
        ...

    async def release(self, key: str, token: str) -> bool:
        """Count it no longer, and turn its papers back, if this is still the token of its hold."""
        ...

    async def standing(self, key: str) -> Hold | None: ...

    async def unsettled(self, limit: int) -> list[Hold]:
        """Those that nobody has called settled, oldest first."""
        ...

    async def settle(self, key: str) -> None:
        """Nothing more is expected to become of it: it stays counted."""

    async def budgets(self) -> list[Budget]:
        """All that are kept, by name."""
        ...

    async def paper(self, name: str) -> str:
        """Its text; "" for none."""
        ...

    async def papers(self, prefix: str, after: str = "") -> dict[str, str]:
        """Those whose name begins so and comes after that one, by name, LISTED of them at most."""
        ...

    async def swap(self, swap: Swap, ends_at: float, now: float = 0.0) -> bool:
        """Change one, if it is as it must be and they are not too many; ends_at: when it may go, FOREVER for
        one that fits even then; now: what ended before makes room."""
        ...


class Books(Protocol):
    """Where holds, budgets and papers are kept, for the functions below: a look or a write each."""

    def hold_of(self, key: str) -> tuple[str, bytes] | None:
        """Token and ask."""

    def put_hold(self, ask: Ask, data: bytes) -> None: ...

    def renew_hold(self, key: str, token: str, at: float) -> None: ...

    def drop_hold(self, key: str) -> None: ...

    def sums_of(self, budget: str) -> tuple[int, int] | None:
        """What was ever held there, and ever released."""

    def put_sums(self, budget: str, held: int, released: int, ends_at: float) -> None: ...

    def paper_of(self, name: str) -> str: ...

    def put_paper(self, name: str, text: str, ends_at: float | None = None) -> None:
        """text: "" drops it; ends_at: None leaves it as it was."""

    def count_papers(self) -> int: ...

    def trim(self, now: float, limit: int) -> None: ...


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Ask)


def encoded(ask: Ask) -> bytes:
    """As books keep it."""
    return _encoder.encode(ask)


def hold_in(books: Books, ask: Ask) -> Outcome:
    """`Ledger.hold`, as one step."""
    standing = books.hold_of(ask.key)
    for swap in ask.swaps:
        if (swap.old == swap.new or standing is None) and books.paper_of(swap.name) != swap.old:
            return Outcome(changed=swap.name)
    if standing is not None:
        if _decoder.decode(standing[1]).of != ask.of:
            return Outcome(changed=ask.key)
        books.renew_hold(ask.key, ask.token, ask.at)
        return Outcome(held=True)
    sums = [books.sums_of(line.budget) or (0, 0) for line in ask.lines]
    for place, (line, (held, released)) in enumerate(zip(ask.lines, sums, strict=True)):
        if held - released + int(line.amount) > int(line.limit):
            return Outcome(over=place, counted=held - released)
    books.put_hold(ask, encoded(ask))
    for line, (held, released) in zip(ask.lines, sums, strict=True):
        books.put_sums(line.budget, held + int(line.amount), released, line.ends_at)
    for swap in ask.swaps:
        if swap.old != swap.new:
            books.put_paper(swap.name, swap.new)
    books.trim(ask.at, TRIM)
    return Outcome(held=True)


def release_in(books: Books, key: str, token: str) -> bool:
    """`Ledger.release`, as one step."""
    standing = books.hold_of(key)
    if standing is None or standing[0] != token:
        return False
    ask = _decoder.decode(standing[1])
    for line in ask.lines:
        if (sums := books.sums_of(line.budget)) is not None:
            books.put_sums(line.budget, sums[0], sums[1] + int(line.amount), line.ends_at)
    for swap in ask.swaps:
        if swap.old != swap.new and books.paper_of(swap.name) == swap.new:
            books.put_paper(swap.name, swap.old)
    books.drop_hold(key)
    return True


def swap_in(books: Books, swap: Swap, ends_at: float, now: float) -> bool:
    """`Ledger.swap`, as one step."""
    books.trim(now, TRIM)
    if books.paper_of(swap.name) != swap.old:
        return False
    if not swap.old and ends_at < FOREVER and books.count_papers() >= MAX_PAPERS:
        return False
    books.put_paper(swap.name, swap.new, ends_at)
    return True


class MemoryLedger:
    """Books in dicts, and a ledger over them; gone with the process."""

    def __init__(self) -> None:
        self._holds: dict[str, tuple[str, bytes, float, float]] = {}
        self._unsettled: dict[str, None] = {}
        self._sums: dict[str, tuple[int, int, float]] = {}
        self._papers: dict[str, tuple[str, float]] = {}

    async def hold(self, ask: Ask) -> Outcome:
        return hold_in(self, ask)

    async def release(self, key: str, token: str) -> bool:
        return release_in(self, key, token)

    async def standing(self, key: str) -> Hold | None:
        found = self._holds.get(key)
        return Hold(key, found[0], found[2]) if found else None

    async def unsettled(self, limit: int) -> list[Hold]:
        found = [Hold(key, self._holds[key][0], self._holds[key][2]) for key in self._unsettled]
        return sorted(found, key=lambda hold: hold.at)[:limit]

    async def settle(self, key: str) -> None:
        self._unsettled.pop(key, None)

    async def budgets(self) -> list[Budget]:
        return [
            Budget(name, held - released, ends) for name, (held, released, ends) in sorted(self._sums.items())
        ]

    async def paper(self, name: str) -> str:
        return self.paper_of(name)

    async def papers(self, prefix: str, after: str = "") -> dict[str, str]:
        found = sorted(name for name in self._papers if name.startswith(prefix) and name > after)[:LISTED]
        return {name: self._papers[name][0] for name in found}

    async def swap(self, swap: Swap, ends_at: float, now: float = 0.0) -> bool:
        return swap_in(self, swap, ends_at, now)

    # -- the books

    def hold_of(self, key: str) -> tuple[str, bytes] | None:
        found = self._holds.get(key)
        return found[:2] if found else None

    def put_hold(self, ask: Ask, data: bytes) -> None:
        self._holds[ask.key] = (ask.token, data, ask.at, ask.ends_at)
        self._unsettled[ask.key] = None

    def renew_hold(self, key: str, token: str, at: float) -> None:
        _, data, _, ends_at = self._holds[key]
        self._holds[key] = (token, data, at, ends_at)

    def drop_hold(self, key: str) -> None:
        del self._holds[key]
        self._unsettled.pop(key, None)

    def sums_of(self, budget: str) -> tuple[int, int] | None:
        found = self._sums.get(budget)
        return found[:2] if found else None

    def put_sums(self, budget: str, held: int, released: int, ends_at: float) -> None:
        self._sums[budget] = (held, released, ends_at)

    def paper_of(self, name: str) -> str:
        return self._papers.get(name, ("", 0.0))[0]

    def put_paper(self, name: str, text: str, ends_at: float | None = None) -> None:
        if not text:
            self._papers.pop(name, None)
        else:
            self._papers[name] = (text, self._papers[name][1] if ends_at is None else ends_at)

    def count_papers(self) -> int:
        return len(self._papers)

    def trim(self, now: float, limit: int) -> None:
        for key in [key for key, (*_, ends) in self._holds.items() if ends < now][:limit]:
            self.drop_hold(key)
        for name in [name for name, (*_, ends) in self._sums.items() if ends < now][:limit]:
            del self._sums[name]
        for name in [name for name, (_, ends) in self._papers.items() if ends < now][:limit]:
            del self._papers[name]
