"""Payments that were told as paid, looked at once more when their block is final.

With one confirmation a payment is told in its first block, and a reorganisation may still undo it.
Each is asked for once, at the depth of finality: one receipt in the batch of a look. A payment that
is gone there, its nonce unused by the word of all, is handed back to be told and watched anew; one
that moved to another transaction is handed back too, and found there. Memory only: a restart, or
another watcher, forgets them.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from guardian.chain.endpoint import Endpoint
from guardian.chain.evidence import Use, judge
from guardian.chain.reads import (
    FALLBACK_FINALITY_BLOCKS,
    Finality,
    receipt_answer,
    receipt_call,
    state_answer,
    state_call,
)
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Finding, Paid, Target

KEPT_LIMIT = 20_000
"""Payments between their first block and finality: 13 minutes of Ethereum at 25 a second."""

AT_ONCE = 100
TRIES = 20
"""Looks in a row that do not show the receipt, and no agreement that the nonce is unused."""


@dataclass(slots=True)
class Kept:
    """One payment between told and final; gone: how many looks did not show it."""

    target: Target
    tell: Callable[[Finding], None]
    paid: Paid
    gone: int = 0


class Aftercare:
    """What was told as paid and is not final."""

    def __init__(self, finality: Finality) -> None:
        self._depth = finality if isinstance(finality, int) else FALLBACK_FINALITY_BLOCKS
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def keep(self, target: Target, tell: Callable[[Finding], None], paid: Paid) -> None:
        """Look at it again when it is final; not at all where it is deep enough already."""
        if paid.confirmations > self._depth:
            return
        self._kept[target.key] = Kept(target, tell, paid)
        while len(self._kept) > KEPT_LIMIT:
            self._kept.popitem(last=False)

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)

    async def review(self, endpoint: Endpoint, endpoints: Endpoints) -> list[tuple[Kept, bool]]:
        """Those that are not where they were, and whether they are undone for all to see.

        They are kept no longer. Raises ChainUnavailable.
        """
        due = self._due(endpoint.head.number if endpoint.head else 0)
        if not due:
            return []
        answers = await endpoint.ask_all([receipt_call(kept.paid.transaction) for kept in due])
        missing = [
            kept
            for kept, answer in zip(due, answers, strict=True)
            if not self._stands(kept, answer, endpoint)
        ]
        undone = await _undone(endpoints, missing) if missing else frozenset()
        lost = [k for k in missing if k.target.key in undone or k.gone >= TRIES]
        for kept in lost:
            self._kept.pop(kept.target.key, None)
        return [(kept, kept.target.key in undone) for kept in lost]

    def _stands(self, kept: Kept, answer: object, endpoint: Endpoint) -> bool:
        """Whether the payment is still there. Moved to a young block it waits for finality once more."""
        receipt = receipt_answer(answer)
        if receipt is None or judge(receipt, kept.target)[0] is not Use.PAID:
            kept.gone += 1
            return False
        self._kept.pop(kept.target.key, None)
        if endpoint.head and receipt.block + self._depth > endpoint.head.number:
            kept.paid = replace(kept.paid, block=receipt.block)
            self._kept[kept.target.key] = kept
        return True

    def _due(self, head: int) -> list[Kept]:
        """In the order in which they were told, which is nearly that of their blocks."""
        deep = itertools.takewhile(lambda kept: kept.paid.block + self._depth <= head, self._kept.values())
        return list(itertools.islice(deep, AT_ONCE))


def _pays(kept: Kept, answer: object) -> bool:
    receipt = receipt_answer(answer)
    return receipt is not None and judge(receipt, kept.target)[0] is Use.PAID


async def _undone(endpoints: Endpoints, missing: Sequence[Kept]) -> frozenset[str]:
    """Keys without a receipt and with an unused nonce by the word of all endpoints."""

    async def of_one(endpoint: Endpoint) -> frozenset[str]:
        head = endpoint.head.number if endpoint.head else 0
        calls = []
        for kept in missing:
            calls += [receipt_call(kept.paid.transaction), state_call(kept.target, head)]
        answers = iter(await endpoint.ask_all(calls))
        verdicts = [(kept, _pays(kept, next(answers)), state_answer(next(answers))) for kept in missing]
        return frozenset(kept.target.key for kept, pays, used in verdicts if not pays and used is False)

    return await endpoints.agreed(of_one)
