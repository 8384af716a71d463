"""The watcher of one network: one loop for all its targets, whatever their number.

Per look at the chain: one probe of each endpoint, one log query, one batch for nonce states and
known hashes, and (while a young target has no hash) one read of the pending block; for payments that
are found, one batch to each other endpoint (witness.py), and one when they are final (aftercare.py).
An RPC error gives no finding: the loop goes on, with growing pauses, until there is proof or nobody
watches. What an endpoint's budget does not allow is looked at later, old targets last; a rate limit
is waited out. Doubts that last are looked at through every endpoint in turn, so that none of them
can hide a payment.
"""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Sequence

from guardian.chain.aftercare import Aftercare
from guardian.chain.endpoint import Block, Endpoint, read_block
from guardian.chain.evidence import spenders, word
from guardian.chain.past import CHUNKS_PER_TICK
from guardian.chain.proofs import prove
from guardian.chain.reads import Finality, pending_transactions
from guardian.chain.rpc import Endpoints, Standing
from guardian.chain.target import Finding, Paid, Proof, Reorged, Target
from guardian.chain.trail import Trail
from guardian.chain.watch import Look, Watch, cost_of, take_looks, watch_of
from guardian.chain.witness import Witnesses
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

LASTING_BLOCKS = 5
"""A doubt older than this is now and then looked at through another endpoint than the best one."""

LOOKS_PER_TURN = 4

DEBT_PAUSE_CAP_S = 10.0
"""The longest pause for a budget's sake: a caller is held for 25 s."""

WITNESS_PACE_S = 0.5

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
        on_error: Callable[[str], None] = lambda text: None,
        on_head: Callable[[int], None] = lambda head: None,
    ) -> None:
        """clock: Unix seconds, for what is held against the chain's; all pauses go by the endpoints' own,
        which nobody sets. on_error is told what keeps the watcher from seeing, free of secrets; on_head
        the highest block, after each look."""
        self.network = network
        self.endpoints = endpoints
        self._block_time_s = endpoints.block_time_s = max(0.05, block_time_s)
        self._confirmations = max(1, confirmations)
        self._finality = finality_blocks
        self._clock = clock
        self._on_error = on_error
        self._on_head = on_head
        self._watches: dict[str, Watch] = {}
        self._trail = Trail(self._block_time_s, self._confirmations)
        self._witnesses = Witnesses(endpoints, self._block_time_s, on_error)
        self._aftercare = Aftercare(finality_blocks)
        self._looks = itertools.count()
        self._awaiting_witness = False
        self._failures = 0
        self._checked_at = -math.inf
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the chain can be followed, by what its endpoints last said."""
        return self.endpoints.healthy

    @property
    def fault(self) -> str:
        """What an operator should mend: also where the network is healthy and one endpoint is not
        enough to prove a non-payment. Empty: nothing."""
        return self.endpoints.fault

    def standings(self) -> list[Standing]:
        """Every endpoint as an operator should see it, free of secrets."""
        return self.endpoints.standings()

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
        """Raise ChainUnavailable unless the chain can be followed; asks when the last answer is old."""
        now = time.monotonic()
        if not self.healthy or now - self._checked_at > CHECK_FRESH_S:
            self._checked_at = now
            await self.endpoints.refresh()
        if not self.healthy:
            raise ChainUnavailable(self.fault)

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
        late_s = self._clock() - target.from_block_time
        watch = watch_of(target, on_finding, self.endpoints.clock(), late_s)
        old = self._watches.get(target.key)
        for hash in old.known if old else ():
            watch.add_hint(hash)
        self._watches[target.key] = watch
        self._aftercare.forget(target.key)
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
        self._aftercare.forget(key)

    # --- the loop

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause_s = await self._once()
            await asyncio.sleep(max(MIN_GAP_S, min(self.endpoints.debt_s(), DEBT_PAUSE_CAP_S)))
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
            backoff_s = min(BACKOFF_CAP_S, MIN_POLL_S * 2 ** min(self._failures, 10))
            await asyncio.sleep(max(backoff_s, min(self.endpoints.rest_s(), SLOWEST_POLL_S)))
        return 0.0

    def _pace_s(self) -> float:
        """The youngest target sets the pace; a subscription makes polling a mere safety net."""
        if not self._watches:
            return max(1.0, self._block_time_s) if self._aftercare else IDLE_POLL_S
        if self._awaiting_witness:
            return max(MIN_POLL_S, min(WITNESS_PACE_S, self._block_time_s / 2))
        pace_s = max(
            MIN_POLL_S, self._block_time_s / 2, min(SLOWEST_POLL_S, self._youngest_s() / AGE_PER_POLL)
        )
        if self._announced() and not self._without_hash():
            return max(pace_s, 2 * self._block_time_s)
        return pace_s

    def _youngest_s(self) -> float:
        now = self.endpoints.clock()
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
        if not self._watches and not self._aftercare:
            return
        endpoint = self._reader()
        head = endpoint.head
        if head is None:
            return
        try:
            due, looks = await self._look_through(endpoint, head)
        except ChainUnavailable as exc:
            self.endpoints.failed(endpoint, exc)
            raise
        await self._hear(endpoint, head, due, looks)
        await self._prove(due)

    def _reader(self) -> Endpoint:
        """The best endpoint; where a doubt lasts, now and then another one."""
        usable = self.endpoints.usable
        oldest = next(iter(self._watches.values()), None)
        lasting_s = LASTING_BLOCKS * self._block_time_s
        if len(usable) < 2 or oldest is None or self.endpoints.clock() - oldest.since < lasting_s:
            return self.endpoints.best()
        look = next(self._looks)
        if look % LOOKS_PER_TURN:
            return usable[0]
        return usable[1 + look // LOOKS_PER_TURN % (len(usable) - 1)]

    async def _look_through(self, endpoint: Endpoint, head: Block) -> tuple[list[Watch], list[Look]]:
        frozen = endpoint.frozen(self._block_time_s)
        await self._read_pending(endpoint)
        due = self._due(endpoint, head)
        if due:
            rich = endpoint.budget.left(self.endpoints.clock()) > LOOKS_PER_HEAD
            await self._trail.follow(endpoint, head, self._watches, CHUNKS_PER_TICK if rich else 1)
        looks = await take_looks(endpoint, due, head, frozen=frozen)
        if not frozen and endpoint.budget.left(self.endpoints.clock()) > 0:
            await self._review(endpoint)
        return due, looks

    def _due(self, endpoint: Endpoint, head: Block) -> list[Watch]:
        """Whom to look at: at each head the young, now and then the old; the urgent first, then the
        most overdue, then the newest; as many as the budget has calls for, and one at least."""
        now = self.endpoints.clock()
        ranked = [(watch.overdue(now, head, AGE_PER_POLL), watch) for watch in self._watches.values()]
        due = [pair for pair in ranked if pair[0] >= 1.0]
        due.sort(key=lambda pair: (pair[1].target.urgent, pair[0], pair[1].since), reverse=True)
        left = endpoint.budget.left(now)
        chosen: list[Watch] = []
        for _, watch in due[:LOOKS_PER_HEAD]:
            left -= cost_of(watch)
            if chosen and left < 0:
                break
            chosen.append(watch)
        return chosen

    async def _hear(
        self, endpoint: Endpoint, head: Block, due: Sequence[Watch], looks: Sequence[Look]
    ) -> None:
        """Tell what these looks found; payments when another endpoint has had its say."""
        news: list[tuple[Watch, Finding]] = []
        claims: list[tuple[Watch, Paid]] = []
        for watch, look in zip(due, looks, strict=True):
            for finding in watch.news(look, self._confirmations, self.endpoints.clock()):
                if isinstance(finding, Paid):
                    claims.append((watch, finding))
                else:
                    news.append((watch, finding))
            self._trail.search_for_missing(watch, head)
        heard = await self._witnesses.heard(endpoint, head, claims)
        self._awaiting_witness = not all(heard)
        for (watch, paid), told in zip(claims, heard, strict=True):
            news += [(watch, finding) for finding in ([paid] if told else watch.not_yet(paid))]
        news.sort(key=lambda pair: not isinstance(pair[1], Proof))  # what follows a proof is not told
        for watch, finding in news:
            self._tell(watch, finding)

    async def _review(self, endpoint: Endpoint) -> None:
        """Payments told before they were final, and gone since, are watched anew."""
        for kept, undone in await self._aftercare.review(endpoint, self.endpoints):
            if kept.target.key in self._watches:
                continue
            self.watch(kept.target, kept.tell)
            if undone:
                self._tell(self._watches[kept.target.key], Reorged(kept.paid.transaction))

    def _tell(self, watch: Watch, finding: Finding) -> None:
        key = watch.target.key
        if self._watches.get(key) is not watch:
            return
        if isinstance(finding, Proof):
            del self._watches[key]
        if isinstance(finding, Paid):
            self._aftercare.keep(watch.target, watch.tell, finding)
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

    def _without_hash(self) -> dict[str, str]:
        """Young targets of which no transaction is known: {nonce word: key}."""
        now = self.endpoints.clock()
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
