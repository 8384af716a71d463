"""Searching the chain's past for uses of a nonce: after a restart, a late watch, an outage.

Spans are searched backwards, newest blocks first, a bounded number of calls per tick, so that
catching up never delays what is new. Remembers nothing but what is left to search.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from guardian.chain.endpoint import Block, Endpoint, RpcRefused
from guardian.chain.evidence import Log
from guardian.chain.reads import NONCE_FILTER_LIMIT, block_at, used_logs
from guardian.chain.target import Target

CHUNK_BLOCKS = 1000
"""A range that nearly every service answers in one call."""

CHUNKS_PER_TICK = 4

MARGIN_S = 60.0
"""Clocks of ours, of sequencers and of a caller that comes later than it signed."""

SPAN_LIMIT_BLOCKS = 400_000
"""What is searched at most for one target: 9 days at 2 s a block; an authorization lives minutes."""

STEPS_BACK = 12


@dataclass(slots=True)
class Span:
    """Blocks first..last still to be searched for these targets."""

    first: int
    last: int
    keys: frozenset[str]


class Past:
    """What is left to search."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self.chunk = CHUNK_BLOCKS

    def add(self, keys: Collection[str], first: int, last: int) -> None:
        """Search these blocks too. Many targets share spans of as many as one filter takes."""
        ordered = sorted(keys)
        for at in range(0, len(ordered), NONCE_FILTER_LIMIT):
            if first <= last:
                self._spans.append(Span(first, last, frozenset(ordered[at : at + NONCE_FILTER_LIMIT])))

    def searching(self, key: str) -> bool:
        return any(key in span.keys for span in self._spans)

    @property
    def done(self) -> bool:
        return not self._spans

    async def search(self, endpoint: Endpoint, targets: Mapping[str, Target], chunks: int) -> list[Log]:
        """The next chunks' logs. Raises ChainUnavailable; what was not searched stays to be searched."""
        found: list[Log] = []
        for _ in range(min(chunks, CHUNKS_PER_TICK)):
            while self._spans and not any(key in targets for key in self._spans[0].keys):
                self._spans.pop(0)
            if not self._spans:
                break
            span = self._spans[0]
            found += await self._chunk_of(endpoint, span, [targets[k] for k in span.keys if k in targets])
            if span.last < span.first:
                self._spans.pop(0)
        return found

    async def _chunk_of(self, endpoint: Endpoint, span: Span, targets: list[Target]) -> list[Log]:
        low = max(span.first, span.last - self.chunk + 1)
        logs = await self.read(endpoint, targets, low, span.last)
        span.last = low - 1
        return logs

    async def read(self, endpoint: Endpoint, targets: list[Target], first: int, last: int) -> list[Log]:
        """Logs of first..last in one call; in smaller ones, from now on, where a node refuses the range."""
        logs: list[Log] = []
        while last >= first:
            low = max(first, last - self.chunk + 1)
            try:
                logs += await used_logs(endpoint, targets, low, last)
            except RpcRefused:
                if self.chunk == 1:
                    raise
                self.chunk = max(1, min(self.chunk, last - low + 1) // 2)
                continue
            last = low - 1
        return logs


async def block_before(endpoint: Endpoint, head: Block, moment: float, block_time_s: float) -> int:
    """A block whose time lies before this moment, by a margin, and not needlessly far before.

    The estimate from the block time is checked against that block's own time, and doubled until it
    holds; never further back than SPAN_LIMIT_BLOCKS.
    """
    wanted = moment - MARGIN_S
    back = max(1, int((head.timestamp - wanted) / block_time_s) + 1)
    for _ in range(STEPS_BACK):
        number = head.number - min(back, SPAN_LIMIT_BLOCKS)
        if number <= 0:
            return 0
        if back >= SPAN_LIMIT_BLOCKS or (await block_at(endpoint, number)).timestamp <= wanted:
            return number
        back *= 2
    return max(0, head.number - SPAN_LIMIT_BLOCKS)
