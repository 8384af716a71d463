"""The watcher of one network: one loop for all its targets, whatever their number.

Per look at the chain: one probe of each endpoint, one log query, one batch for nonce states and
known hashes, and (while a young target has no hash) one read of the pending block. An RPC error
gives no finding: the loop goes on, with growing pauses, until there is proof or nobody watches.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence

from guardian.chain.evidence import Log, spenders, word
from guardian.chain.past import MARGIN_S, Past, block_before
from guardian.chain.proofs import prove
from guardian.chain.reads import NONCE_FILTER_LIMIT, Finality, pending_transactions
from guardian.chain.rpc import Block, Endpoint, Endpoints, read_block
from guardian.chain.target import Finding, Proof, Target
from guardian.chain.watch import Watch, take_looks, watch_of
from guardian.errors import ChainUnavailable
from guardian.wire.names import Network, TxHash

MIN_POLL_S = 0.2
"""Polling is never faster, however short the blocks: rollups have blocks of 0.25 s."""

MIN_GAP_S = 0.05
"""Between two looks, however often targets and heads come in."""

IDLE_POLL_S = 60.0
"""With nothing to watch, only health is asked for."""

SLOWEST_POLL_S = 60.0
BACKOFF_CAP_S = 5.0
"""Callers may be held while an endpoint is down."""

CHECK_FRESH_S = 5.0

AGE_PER_POLL = 120.0
"""A target of this many seconds is looked at each second, one of twice the age every other."""

LOOKS_PER_HEAD = 100
"""Targets looked at in one batch; with more of them open, each waits its turn."""

PENDING_SCAN_AGE_S = 600.0
"""The pending block is large: it is read for targets that are younger than this."""

OVERLAP_BLOCKS = 12
OVERLAP_S = 20.0
"""Blocks read again at every head, the larger of the two: a reorganisation moves logs, and a
service's log index may lag behind its own head."""

JUST_SEEN_S = 10.0
"""A target first seen this recently lies within the overlap: its past need not be searched."""

MISSING_LOOKS = 3
"""Looks with a used nonce and no log, after which the past is searched (further)."""

REWIND_BLOCKS = 10_000


def _ignore(text: str) -> None: ...


CLOCK_MARGIN_S = 60.0
"""What the clocks of two honest machines may differ before one is taken to be earlier."""


class Watcher:
    """Watches authorizations on one network; findings come by callable, in the event loop."""

    def __init__(
        self,
        network: Network,
        endpoints: Endpoints,
        *,
        block_time_s: float,
        confirmations: int,
        finality_blocks: Finality,
        clock: Callable[[], float],
        on_error: Callable[[str], None] = _ignore,
        on_head: Callable[[int], None] = lambda head: None,
    ) -> None:
        """clock: Unix seconds. on_error is told what keeps the watcher from seeing, free of secrets;
        on_head the highest block, after each look."""
        self.network = network
        self.endpoints = endpoints
        self._block_time_s = max(0.05, block_time_s)
        self._confirmations = max(1, confirmations)
        self._finality = finality_blocks
        self._clock = clock
        self._on_error = on_error
        self._on_head = on_head
        self._watches: dict[str, Watch] = {}
        self._past = Past()
        self._covered = -1  # the last block whose logs were read for every target
        self._failures = 0
        self._checked_at = -math.inf
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether an endpoint answered, on the right chain, when it was last asked."""
        return bool(self.endpoints.usable)

    @property
    def head(self) -> int:
        """The highest block seen; 0 before the first."""
        return self.endpoints.head

    async def start(self) -> None:
        """Begin; returns at once, whether or not an endpoint answers."""
        self.endpoints.on_head = self._head_announced
        self._task = asyncio.create_task(self._run(), name=f"watcher {self.network}")

    async def stop(self) -> None:
        """End the loop and close the endpoints; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self.endpoints.close()

    async def check(self) -> None:
        """Raise ChainUnavailable unless an endpoint is usable; asks when the last answer is old."""
        now = time.monotonic()
        if not self.healthy or now - self._checked_at > CHECK_FRESH_S:
            self._checked_at = now
            await self.endpoints.refresh()
        self.endpoints.best()

    async def is_earlier(self, block: int, moment: float) -> bool:
        """Whether a block is clearly older than a moment in Unix seconds, by the chain's own clock.

        A chain that is behind the wall clock is given what it lags. Raises ChainUnavailable.
        """

        async def read(endpoint: Endpoint) -> bool:
            mined = read_block(await endpoint.ask("eth_getBlockByNumber", hex(block), False))
            lag_s = max(0.0, self._clock() - endpoint.head.timestamp) if endpoint.head else 0.0
            return mined.timestamp < moment - lag_s - CLOCK_MARGIN_S

        return await self.endpoints.first(read)

    def watch(self, target: Target, on_finding: Callable[[Finding], None]) -> None:
        """Watch until there is proof, or `forget`. A target watched already is begun anew.

        Raises ValueError for a target that is no EIP-3009 authorization.
        """
        watch = watch_of(target, on_finding, self._clock())
        old = self._watches.get(target.key)
        for hash in old.known if old else ():
            watch.add_hint(hash)
        self._watches[target.key] = watch
        self._wake.set()

    def hint(self, key: str, tx: TxHash) -> None:
        """Somebody reported this hash for this target."""
        watch = self._watches.get(key)
        if watch is not None and watch.add_hint(tx):
            watch.look_again()
            self._wake.set()

    def forget(self, key: str) -> None:
        """Stop watching; nothing is told about it any more."""
        self._watches.pop(key, None)

    # --- the loop

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause_s = await self._once()
            await asyncio.sleep(MIN_GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _once(self) -> float:
        """One look, or one failure; how long to pause then."""
        try:
            await self.look()
        except ChainUnavailable as exc:
            return await self._failed(str(exc))
        except Exception as exc:  # the edge of the task: a watch must outlive any fault
            return await self._failed(f"{type(exc).__name__} while looking at the chain")
        self._failures = 0
        return self._pace_s()

    async def _failed(self, why: str) -> float:
        """Pause unhurried by new targets, and not at all while another endpoint is up."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, …: a log line, not a flood
            self._on_error(f"{self.network}: {why}; failure {self._failures} in a row")
        for watch in self._watches.values():
            watch.look_again()
        if self._failures > len(self.endpoints.all) or not self.endpoints.usable:
            await asyncio.sleep(min(BACKOFF_CAP_S, MIN_POLL_S * 2 ** min(self._failures, 10)))
        return 0.0

    def _pace_s(self) -> float:
        """The youngest target sets the pace; a subscription makes polling a mere safety net."""
        if not self._watches:
            return IDLE_POLL_S
        pace_s = max(
            MIN_POLL_S, self._block_time_s / 2, min(SLOWEST_POLL_S, self._youngest_s() / AGE_PER_POLL)
        )
        if self._announced() and not self._without_hash():
            return max(pace_s, 2 * self._block_time_s)
        return pace_s

    def _youngest_s(self) -> float:
        now = self._clock()
        return min((now - watch.since for watch in self._watches.values()), default=0.0)

    def _announced(self) -> bool:
        return any(endpoint.announces_heads for endpoint in self.endpoints.usable)

    def _head_announced(self) -> None:
        if self._watches and self._youngest_s() / AGE_PER_POLL <= max(1.0, self._block_time_s):
            self._wake.set()

    async def look(self) -> None:
        """One look at the chain, all the loop ever does. Raises ChainUnavailable."""
        await self.endpoints.refresh()
        self._on_head(self.head)
        if not self._watches:
            return
        endpoint = self.endpoints.best()
        head = endpoint.head
        if head is None:
            return
        try:
            await self._read_pending(endpoint)
            due = self._due(head)
            if due:
                await self._read_logs(endpoint, head, due)
            looks = await take_looks(endpoint, due, head)
        except ChainUnavailable:
            self.endpoints.failed(endpoint)
            raise
        for watch, look in zip(due, looks, strict=True):
            for finding in watch.news(look, self._confirmations, self._clock()):
                self._tell(watch, finding)
            self._search_for_missing(watch, head)
        await self._prove(due)

    def _due(self, head: Block) -> list[Watch]:
        """Whom to look at: at each head the young, now and then the old, the most overdue first."""
        now = self._clock()
        ranked = [(watch.overdue(now, head, AGE_PER_POLL), watch) for watch in self._watches.values()]
        due = sorted((pair for pair in ranked if pair[0] >= 1.0), key=lambda pair: -pair[0])
        return [watch for _, watch in due[:LOOKS_PER_HEAD]]

    def _tell(self, watch: Watch, finding: Finding) -> None:
        key = watch.target.key
        if self._watches.get(key) is not watch:
            return
        if isinstance(finding, Proof):
            del self._watches[key]
        try:
            watch.tell(finding)
        except Exception as exc:  # a listener's fault must not cost the other targets their watch
            self._on_error(f"{self.network}: a listener failed with {type(exc).__name__}")

    async def _prove(self, looked: Sequence[Watch]) -> None:
        """Ask every endpoint about those that seem to be unpaid for good."""
        claims = [watch.claim for watch in looked if watch.claim and watch.target.key in self._watches]
        if not claims:
            return
        proofs = await prove(self.endpoints, claims, self._finality)
        for watch in looked:
            proof = proofs.get(watch.target.key)
            if proof is not None:
                self._tell(watch, proof)

    # --- finding transactions

    async def _read_logs(self, endpoint: Endpoint, head: Block, due: Sequence[Watch]) -> None:
        """Uses of nonces in the blocks since the last look, and a part of the past where one is open."""
        targets = {key: watch.target for key, watch in self._watches.items()}
        fresh = [watch for watch in self._watches.values() if watch.past_from < 0]
        first = max(0, head.number - min(self._overlap(), self._past.chunk) + 1)
        if 0 <= self._covered < first - 1:
            self._past.add(targets, self._covered + 1, first - 1)
        await self._open_past(endpoint, head, fresh, first)
        logs = await self._past.read(endpoint, list(targets.values()), first, head.number)
        self._covered = head.number
        logs += await self._past.search(endpoint, targets)
        self._match(logs)

    def _overlap(self) -> int:
        """Blocks read at every head; more of them while the filter names nonces and answers are short."""
        seconds = MARGIN_S if len(self._watches) <= NONCE_FILTER_LIMIT else OVERLAP_S
        return max(OVERLAP_BLOCKS, self._confirmations + 3, math.ceil(seconds / self._block_time_s))

    async def _open_past(self, endpoint: Endpoint, head: Block, fresh: Sequence[Watch], first: int) -> None:
        """Have the past searched for targets that are handed in after the fact, all with one estimate."""
        late = [w for w in fresh if w.since - w.target.from_block_time > JUST_SEEN_S]
        if late:
            moment = min(watch.target.from_block_time for watch in late)
            start = await block_before(endpoint, head, moment, self._block_time_s)
            self._past.add([watch.target.key for watch in late], start, first - 1)
            for watch in late:
                watch.past_from = min(start, first)
        for watch in fresh:
            watch.past_from = watch.past_from if watch.past_from >= 0 else first

    def _search_for_missing(self, watch: Watch, head: Block) -> None:
        """A nonce used by a transaction that no log query has shown: search again, and further back."""
        if watch.missing < MISSING_LOOKS or self._past.searching(watch.target.key):
            return
        watch.missing = 0
        watch.past_from = max(0, watch.past_from - REWIND_BLOCKS)
        self._past.add([watch.target.key], watch.past_from, head.number)

    def _match(self, logs: Sequence[Log]) -> None:
        by_words: dict[tuple[str, ...], Watch] = {
            (watch.target.asset, word(watch.target.payer), word(watch.target.nonce)): watch
            for watch in self._watches.values()
        }
        for log in logs:
            watch = by_words.get((log.address, *log.words[:2])) if len(log.words) >= 2 else None
            if watch is not None:
                watch.add_found(log.transaction)

    def _without_hash(self) -> dict[str, str]:
        """Young targets of which no transaction is known: {nonce word: key}."""
        now = self._clock()
        return {
            word(watch.target.nonce): key
            for key, watch in self._watches.items()
            if not watch.known and not watch.used and now - watch.since < PENDING_SCAN_AGE_S
        }

    async def _read_pending(self, endpoint: Endpoint) -> None:
        """Look for transactions in the mempool, where nobody has named one."""
        wanted = dict(list(self._without_hash().items())[:LOOKS_PER_HEAD])
        if not wanted:
            return
        for key, transaction in spenders(await pending_transactions(endpoint), wanted).items():
            self.hint(key, transaction)
