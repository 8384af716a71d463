"""A second endpoint's word on a payment that one endpoint shows (law 3).

Where several endpoints are configured, one that lies, or was broken into, must not sell goods for
nothing: what it shows is told as paid when another one bears it out. Nor may a second endpoint that
is down, slow or poor hold back good payments. So, of the others that are up:

- one shows the payment too: it is told;
- one denies it: it has come past that block, or that moment, and says that the nonce is unused, or
  shows another outcome of the transaction, or another transaction that used the nonce. Then the
  payment is not told, however long that takes: two nodes that contradict each other are a doubt
  (law 1), the agreement of any other ends it, and a node that is merely on a fork falls behind;
- none can know yet: behind, no answer, no receipts kept. One block time is waited for them, then
  the payment is told on the word of one, with a log line.

With no other endpoint up there is nothing to wait for. What remains: an endpoint that invents blocks
a few seconds ahead of the others is believed after one block time. The number of messages is one
for each other endpoint and look, two where it lacks a receipt, whatever the number of payments.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

from guardian.chain.endpoint import Block, Endpoint
from guardian.chain.evidence import Use, judge, word
from guardian.chain.reads import receipt_answer, receipt_call, state_answer, state_call, used_logs
from guardian.chain.rpc import Endpoints
from guardian.chain.target import Paid
from guardian.chain.watch import Watch
from guardian.errors import ChainUnavailable

SHORTEST_WAIT_S = 1.0
"""One block time, but no less: on a chain of four blocks a second nodes differ by more than one."""

ANSWER_S = 1.0
"""How long one look waits for the others; a node that hangs is asked again at the next one."""

LOGS_BACK = 64
"""Blocks before the one claimed in which another use of the nonce is looked for."""

CLAIMS_KEPT = 32
"""Of one target, some looks long; more is a node that invents another transaction at every look."""

Claim = tuple[Watch, Paid]


class Word(Enum):
    """What another endpoint says of a payment."""

    CONFIRMS = "confirms"
    DENIES = "denies"
    USED = "used"  # the nonce is used, and it has no receipt of this transaction
    SILENT = "silent"


class Witnesses:
    """Asks the other endpoints about payments, and says which may be told."""

    def __init__(self, endpoints: Endpoints, block_time_s: float, on_error: Callable[[str], None]) -> None:
        self._endpoints = endpoints
        self._wait_s = max(SHORTEST_WAIT_S, block_time_s)
        self._on_error = on_error
        self._alone = False

    async def heard(self, teller: Endpoint, head: Block, claims: Sequence[Claim]) -> list[bool]:
        """Whether each payment that the teller shows at this head may be told, in the claims' order."""
        if not claims or len(self._endpoints.all) == 1:
            return [True for _ in claims]
        others = self._endpoints.others(teller)
        for watch, paid in claims:
            watch.witnessed_from.setdefault(paid.transaction, (self._endpoints.clock(), head.timestamp))
            while len(watch.witnessed_from) > CLAIMS_KEPT:
                watch.witnessed_from.pop(next(iter(watch.witnessed_from)))
        said = await self._ask(others, claims)
        return [
            self._may_be_told(watch, paid, [words[at] for words in said], bool(others))
            for at, (watch, paid) in enumerate(claims)
        ]

    async def _ask(self, others: Sequence[Endpoint], claims: Sequence[Claim]) -> list[list[Word]]:
        """What each other endpoint says of each claim; those that do not answer in time are left out."""
        tasks = {asyncio.create_task(_words(other, claims)) for other in others}
        said: list[list[Word]] = []
        waiting, until = tasks, asyncio.get_running_loop().time() + ANSWER_S
        while waiting and not all(any(w[at] is Word.CONFIRMS for w in said) for at in range(len(claims))):
            left_s = until - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            said += [task.result() for task in done]
            if not done:
                break
        for task in waiting:
            task.cancel()
        return said

    def _may_be_told(self, watch: Watch, paid: Paid, words: Sequence[Word], others: bool) -> bool:
        if Word.CONFIRMS in words:
            self._alone = False
            return True
        if Word.DENIES in words:
            if not watch.denied:
                self._on_error(
                    f"endpoints of {self._endpoints.network} contradict each other: one alone shows the"
                    f" payment in {paid.transaction}; it stays in doubt"
                )
            watch.denied = True
            return False
        if others and self._endpoints.clock() - watch.witnessed_from[paid.transaction][0] < self._wait_s:
            return False
        if not self._alone:
            self._on_error(f"payments on {self._endpoints.network} are told on the word of one endpoint")
        self._alone = True
        return True


async def _words(endpoint: Endpoint, claims: Sequence[Claim]) -> list[Word]:
    head = endpoint.head
    if head is None:
        return [Word.SILENT for _ in claims]
    calls = []
    for watch, paid in claims:
        calls += [receipt_call(paid.transaction), state_call(watch.target, head.number)]
    try:
        answers = iter(await endpoint.ask_all(calls))
        words = [_word(watch, paid, head, next(answers), next(answers)) for watch, paid in claims]
        used = [claim for claim, said in zip(claims, words, strict=True) if said is Word.USED]
        elsewhere = await _used_elsewhere(endpoint, head, used) if used else set()
    except ChainUnavailable:
        return [Word.SILENT for _ in claims]
    return [
        Word.DENIES if said is Word.USED and watch.target.key in elsewhere else said
        for (watch, _), said in zip(claims, words, strict=True)
    ]


def _word(watch: Watch, paid: Paid, head: Block, receipt: object, state: object) -> Word:
    found = receipt_answer(receipt)
    if found is not None and found.transaction == paid.transaction:
        return Word.CONFIRMS if judge(found, watch.target)[0] is Use.PAID else Word.DENIES
    used = state_answer(state)
    if used is None:
        return Word.SILENT
    if used:
        return Word.USED
    could_know = head.number >= paid.block or head.timestamp > watch.witnessed_from[paid.transaction][1]
    return Word.DENIES if could_know else Word.SILENT


async def _used_elsewhere(endpoint: Endpoint, head: Block, claims: Sequence[Claim]) -> set[str]:
    """Keys whose nonce was used, by this endpoint's logs, in another transaction than the one claimed.

    The transaction that it names is looked up from now on.
    """
    first = max(0, min(paid.block for _, paid in claims) - LOGS_BACK)
    elsewhere = set()
    for log in await used_logs(endpoint, [watch.target for watch, _ in claims], first, head.number):
        for watch, paid in claims:
            target = watch.target
            is_it = (log.address, *log.words[:2]) == (target.asset, word(target.payer), word(target.nonce))
            if is_it and log.transaction != paid.transaction:
                watch.add_found(log.transaction)
                elsewhere.add(target.key)
    return elsewhere
