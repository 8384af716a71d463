"""What the watcher remembers about one target, and how one look at the chain becomes findings.

A look is taken on one endpoint at one head, as one batch for many targets; each fact is told once.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from guardian.chain.endpoint import Block, Endpoint
from guardian.chain.evidence import Receipt, Use, judge
from guardian.chain.proofs import Claim
from guardian.chain.reads import (
    is_waiting,
    receipt_answer,
    receipt_call,
    state_answer,
    state_call,
    transaction_call,
)
from guardian.chain.target import Finding, Paid, Reverted, Seen, Target, Unused
from guardian.wire.names import Address, Nonce, TxHash

HINTS_KEPT = 4
"""Reported hashes looked up per target and head: the newest."""

FOUND_KEPT = 8
"""Hashes that logs name, likewise. A nonce is used once; more is a node that invents logs."""

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_WORD = re.compile(r"0x[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Look:
    """What one endpoint said about one target at one head.

    used: None where the state could not be read; receipts: of known hashes; waiting: known hashes
    that stand in the mempool.
    """

    head: Block
    used: bool | None
    receipts: tuple[Receipt, ...] = ()
    waiting: tuple[TxHash, ...] = ()


@dataclass(slots=True)
class Watch:
    """One target under watch.

    since: when it was (last) handed in, on a clock that only grows, as all times here; late_s: how long
    after it was first seen; looked_at, looked_head: time and head of the last look; stale:
    something came in since the last look; past_from: the lowest block searched, -1 before the first;
    missing: looks in a row with a used nonce and no transaction for it; claim: what seems to exclude
    payment, not proven yet; witnessed_from: when one endpoint alone first showed a payment, and the time of
    its head then; denied: another one contradicted it.
    """

    target: Target
    tell: Callable[[Finding], None]
    since: float
    late_s: float = 0.0
    hints: list[TxHash] = field(default_factory=list)
    found: list[TxHash] = field(default_factory=list)
    looked_at: float = 0.0
    looked_head: str = ""
    stale: bool = True
    past_from: int = -1
    missing: int = 0
    used: bool = False
    claim: Claim | None = None
    witnessed_from: dict[TxHash, tuple[float, int]] = field(default_factory=dict)
    denied: bool = False
    _told: set[Finding] = field(default_factory=set)
    _told_block: int = -1

    @property
    def known(self) -> list[TxHash]:
        """Every hash worth looking up."""
        return list(dict.fromkeys([*self.found, *self.hints]))

    def overdue(self, now: float, head: Block, age_per_look: float) -> float:
        """1 and more: to be looked at now. Never twice at one head, unless something came in."""
        if self.stale:
            return math.inf
        if self.looked_head == head.hash:
            return 0.0
        interval_s = 0.0 if self.found else (now - self.since) / age_per_look
        return (now - self.looked_at + 1e-3) / max(1e-3, interval_s)

    def look_again(self) -> None:
        """Something came in: look at once, whatever the head."""
        self.stale = True

    def add_hint(self, transaction: str | None) -> bool:
        """Remember a reported hash; whether it is new and a hash at all."""
        hint = TxHash((transaction or "").lower())
        if not _WORD.fullmatch(hint) or hint in self.known:
            return False
        self.hints = [*self.hints, hint][-HINTS_KEPT:]
        return True

    def add_found(self, transaction: TxHash) -> None:
        """Remember a hash that a log names."""
        if transaction not in self.found:
            self.found = [*self.found, transaction][-FOUND_KEPT:]

    def news(self, look: Look, confirmations: int, now: float) -> list[Finding]:
        """Findings of this look that were not told before; keeps a suspicion of non-payment in `claim`."""
        self.looked_at, self.looked_head = now, look.head.hash
        self.claim = None
        self.used = bool(look.used)
        uses = [judge(receipt, self.target)[0] for receipt in look.receipts]
        explained = any(use in (Use.PAID, Use.MISMATCH, Use.CANCELLED) for use in uses)
        self.missing = self.missing + 1 if self.used and not explained else 0
        findings = [
            finding
            for receipt in look.receipts
            for finding in self._of_receipt(receipt, look.head.number, confirmations)
        ]
        findings += [Seen(transaction) for transaction in look.waiting]
        if look.used is False:
            findings += self._of_unused(look)
        paid: list[Finding] = [finding for finding in findings if isinstance(finding, Paid)]
        if paid:
            return paid  # of several, all but one are invented: which one is not, other endpoints know
        return self._untold(findings)

    def not_yet(self, paid: Paid) -> list[Finding]:
        """A payment that another endpoint has still to confirm is seen; it is looked at again at once."""
        self.stale = True
        return self._untold([Seen(paid.transaction)])

    def _of_receipt(self, receipt: Receipt, head: int, confirmations: int) -> Iterable[Finding]:
        use, detail = judge(receipt, self.target)
        depth = head - receipt.block + 1
        if use is Use.PAID:
            if depth >= confirmations:
                return [Paid(receipt.transaction, receipt.block, depth)]
            return [Seen(receipt.transaction)]
        if use in (Use.CANCELLED, Use.MISMATCH):
            self.claim = Claim(self.target, receipt.transaction, use, detail)
            return []
        if receipt.transaction in self.hints:  # its part is played; a reorganisation shows in the logs
            self.hints.remove(receipt.transaction)
        return [Reverted(receipt.transaction)] if use is Use.REVERTED else []

    def _of_unused(self, look: Look) -> list[Finding]:
        over = self.target.valid_before is not None and look.head.timestamp >= self.target.valid_before
        if over and self.claim is None:
            self.claim = Claim(self.target)
        if look.head.number <= self._told_block:
            return []
        self._told_block = look.head.number
        return [Unused(look.head.number, bool(look.waiting))]

    def _untold(self, findings: Iterable[Finding]) -> list[Finding]:
        fresh = [finding for finding in dict.fromkeys(findings) if finding not in self._told]
        self._told.update(finding for finding in fresh if not isinstance(finding, Unused))
        return fresh


def watch_of(target: Target, tell: Callable[[Finding], None], now: float, late_s: float) -> Watch:
    """A new watch, of a payment that was first seen so long ago; raises ValueError for a target that no
    EVM node could be asked about.

    Checked here because one malformed field would spoil the question asked for all targets at once.
    """
    clean = replace(
        target,
        asset=Address(target.asset.lower()),
        payer=Address(target.payer.lower()),
        pay_to=Address(target.pay_to.lower()),
        nonce=Nonce(target.nonce.lower()),
    )
    for name, text in (("asset", clean.asset), ("payer", clean.payer), ("pay_to", clean.pay_to)):
        if not _ADDRESS.fullmatch(text):
            raise ValueError(f"{name} is no EVM address")
    if not _WORD.fullmatch(clean.nonce):
        raise ValueError("nonce is no 32-byte word")
    watch = Watch(clean, tell, now, late_s)
    watch.add_hint(target.hint)
    return watch


async def take_looks(
    endpoint: Endpoint, watches: Sequence[Watch], head: Block, *, frozen: bool = False
) -> list[Look]:
    """Nonce states and known hashes of all these targets in one batch; raises ChainUnavailable.

    frozen: the head has stood still for so long that a nonce unused there says nothing.
    """
    questions = [_questions(watch) for watch in watches]
    calls = []
    for watch, hashes in zip(watches, questions, strict=True):
        watch.stale = False
        calls.append(state_call(watch.target, head.number))
        for transaction, mined in hashes:
            calls += [receipt_call(transaction)] + ([] if mined else [transaction_call(transaction)])
    answers = iter(await endpoint.ask_all(calls))
    return [_look(hashes, head, answers, frozen) for hashes in questions]


def cost_of(watch: Watch) -> int:
    """How many calls a look at this target takes."""
    return 1 + sum(1 if mined else 2 for _, mined in _questions(watch))


def _questions(watch: Watch) -> list[tuple[TxHash, bool]]:
    """Hashes as known now (hints come in while the answer is awaited), and whether a log named it: it
    is in a block then, and need not be looked for in the mempool."""
    return [(transaction, transaction in watch.found) for transaction in watch.known]


def _look(
    hashes: Sequence[tuple[TxHash, bool]], head: Block, answers: Iterator[object], frozen: bool
) -> Look:
    used = state_answer(next(answers))
    used = None if frozen and used is False else used
    receipts, waiting = [], []
    for transaction, mined in hashes:
        receipt, found = receipt_answer(next(answers)), None if mined else next(answers)
        if receipt is not None and receipt.transaction == transaction:
            receipts.append(receipt)
        elif is_waiting(found):
            waiting.append(transaction)
    return Look(head, used, tuple(receipts), tuple(waiting))
