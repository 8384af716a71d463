"""Which blocks' logs were read, and which are still to be: the trail of the nonces under watch.

At every head the newest blocks are read, with an overlap, in one query for all targets; what an
outage left out, and what lies before a late watch, is searched in chunks (past.py). Tells nothing
but hashes: what they prove is decided by the receipt.
"""

import math
from collections.abc import Mapping, Sequence

from guardian.chain.endpoint import Block, Endpoint
from guardian.chain.evidence import Log, word
from guardian.chain.past import MARGIN_S, Past, block_before
from guardian.chain.reads import NONCE_FILTER_LIMIT
from guardian.chain.watch import Watch

OVERLAP_BLOCKS = 12
OVERLAP_S = 20.0
"""Blocks read again at every head, the larger of the two: a reorganisation moves logs, and a
service's log index may lag behind its own head."""

JUST_SEEN_S = 10.0
"""A target first seen this recently lies within the overlap: its past need not be searched."""

MISSING_LOOKS = 3
"""Looks with a used nonce and no log, after which the past is searched (further)."""

REWIND_BLOCKS = 10_000


class Trail:
    """The blocks of one network, as far as their logs were read."""

    def __init__(self, block_time_s: float, confirmations: int) -> None:
        self._block_time_s = block_time_s
        self._confirmations = confirmations
        self._past = Past()
        self._covered = -1  # the last block whose logs were read for every target

    async def follow(
        self, endpoint: Endpoint, head: Block, watches: Mapping[str, Watch], chunks: int
    ) -> None:
        """Uses of nonces in the blocks since the last look, and so many chunks of the past where one is
        open; each watch is told the hashes that concern it. Raises ChainUnavailable."""
        targets = {key: watch.target for key, watch in watches.items()}
        fresh = [watch for watch in watches.values() if watch.past_from < 0]
        first = max(0, head.number - min(self._overlap(len(watches)), self._past.chunk) + 1)
        if 0 <= self._covered < first - 1:
            self._past.add(targets, self._covered + 1, first - 1)
        await self._open_past(endpoint, head, fresh, first)
        logs = await self._past.read(endpoint, list(targets.values()), first, head.number)
        self._covered = head.number
        logs += await self._past.search(endpoint, targets, chunks)
        _match(logs, watches)

    def _overlap(self, watches: int) -> int:
        """Blocks read at every head; more of them while the filter names nonces and answers are short."""
        seconds = MARGIN_S if watches <= NONCE_FILTER_LIMIT else OVERLAP_S
        return max(OVERLAP_BLOCKS, self._confirmations + 3, math.ceil(seconds / self._block_time_s))

    async def _open_past(self, endpoint: Endpoint, head: Block, fresh: Sequence[Watch], first: int) -> None:
        """Have the past searched for targets that are handed in after the fact, all with one estimate."""
        late = [w for w in fresh if w.late_s > JUST_SEEN_S]
        if late:
            moment = min(watch.target.from_block_time for watch in late)
            start = await block_before(endpoint, head, moment, self._block_time_s)
            self._past.add([watch.target.key for watch in late], start, first - 1)
            for watch in late:
                watch.past_from = min(start, first)
        for watch in fresh:
            watch.past_from = watch.past_from if watch.past_from >= 0 else first

    def search_for_missing(self, watch: Watch, head: Block) -> None:
        """A nonce used by a transaction that no log query has shown: search again, and further back."""
        if watch.missing < MISSING_LOOKS or self._past.searching(watch.target.key):
            return
        watch.missing = 0
        watch.past_from = max(0, watch.past_from - REWIND_BLOCKS)
        self._past.add([watch.target.key], watch.past_from, head.number)


def _match(logs: Sequence[Log], watches: Mapping[str, Watch]) -> None:
    by_words: dict[tuple[str, ...], Watch] = {
        (watch.target.asset, word(watch.target.payer), word(watch.target.nonce)): watch
        for watch in watches.values()
    }
    for log in logs:
        watch = by_words.get((log.address, *log.words[:2])) if len(log.words) >= 2 else None
        if watch is not None:
            watch.add_found(log.transaction)
