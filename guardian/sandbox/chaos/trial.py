"""One trial: start everything, let the load and the faults run, heal, let time pass, and hold it all against
the chain."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardian.sandbox.chain import TOKEN, USED
from guardian.sandbox.chaos.buyers import Buyers
from guardian.sandbox.chaos.faults import Faults
from guardian.sandbox.chaos.ground import Ground
from guardian.sandbox.chaos.oracle import Facts, Judgement, figures, judge, judge_repeats
from guardian.sandbox.chaos.schedule import StoreKind, plan

EXPIRE_S = 900
"""Beyond every validity, the clocks' steps and what reorganisations take from the chain's clock."""

SETTLED_LIMIT_S = 90.0
LOOK_EVERY_S = 3.0
READY_LIMIT_S = 60.0
NEVER = ("task failed", "ASGI application", "is being moved by others", "recorded as failed")
"""In a guardian's log these are faults of its own, whatever happens around it."""

EXCUSED = "timeout graceful shutdown exceeded"
"""A caller that waits for a store that is away, while its process is told to end: its connection breaks."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of a trial."""

    seed: int
    seconds: float
    replicas: int = 3
    facilitators: int = 2
    store: StoreKind = "redis"
    per_s: float = 3.0
    kill_every_s: float = 4.0


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    judgement: Judgement
    table: list[tuple[str, object]]
    done: frozenset[str]
    """Kinds of faults that took place."""


def run(terms: Terms, directory: Path, tell: Callable[[str], None] = lambda line: None) -> Outcome:
    """A whole trial; everything that was started has ended afterwards, `directory` holds all logs."""
    with Ground(
        directory, replicas=terms.replicas, facilitators=terms.facilitators, store=terms.store
    ) as ground:
        return asyncio.run(_Trial(ground, terms, tell).play())


class _Trial:
    def __init__(self, ground: Ground, terms: Terms, tell: Callable[[str], None]) -> None:
        self._ground = ground
        self._terms = terms
        self._tell = tell
        self._faults = Faults(ground)
        self._buyers = Buyers(ground, terms.seed, terms.seconds, terms.per_s)

    async def play(self) -> Outcome:
        supervisors = [asyncio.create_task(replica.supervise()) for replica in self._ground.replicas]
        try:
            await self._ground.ready()
            await self._storm()
            await self._calm()
            return await self._verdict()
        finally:
            for task in supervisors:
                task.cancel()
            await asyncio.gather(*supervisors, return_exceptions=True)

    async def _storm(self) -> None:
        terms = self._terms
        schedule = plan(
            terms.seed,
            terms.seconds,
            replicas=terms.replicas,
            facilitators=terms.facilitators,
            store=terms.store,
            kill_every_s=terms.kill_every_s,
        )
        self._tell(f"{len(self._buyers.all)} purchases, {len(schedule)} faults, in {terms.seconds:.0f} s")
        shopping = asyncio.create_task(self._buyers.shop())
        await self._faults.play(schedule, self._tell)
        await self._faults.heal()
        self._tell("healed; the last callers are answered")
        await shopping

    async def _calm(self) -> None:
        """Time passes until nothing can move any more, and every record says so."""
        await self._ground.ready(READY_LIMIT_S)
        await asyncio.to_thread(self._ground.world.chain.advance_time, EXPIRE_S)
        until = time.monotonic() + SETTLED_LIMIT_S
        while time.monotonic() < until:
            records = await asyncio.to_thread(self._ground.pages, "/api/settlements?")
            if all(_is_over(record) for record in records):
                return
            await asyncio.sleep(LOOK_EVERY_S)
        self._tell(f"records are still open after {SETTLED_LIMIT_S:.0f} s")

    async def _verdict(self) -> Outcome:
        facts = await asyncio.to_thread(self._facts)
        judgement = judge(facts)
        waiting = [nonce for nonce, record in facts.records.items() if record["id"] in facts.orphans]
        self._tell(f"{len(waiting)} orphans are asked for")
        first = await self._buyers.ask_again(waiting)
        second = await self._buyers.ask_again(waiting)
        judgement.violations += judge_repeats(first, second, facts)
        after = await asyncio.to_thread(self._facts)
        if dict(after.used) != dict(facts.used):
            judgement.violations.append("asking for orphans has moved money")
        if after.orphans:
            judgement.violations.append(f"{len(after.orphans)} orphans are left after all were asked for")
        await asyncio.to_thread(self._keep, facts)
        done = frozenset(one.kind for one in facts.diary if one.done)
        return Outcome(judgement, figures(facts, judgement), done)

    # -- facts

    def _facts(self) -> Facts:
        records = {str(record["nonce"]): record for record in self._ground.pages("/api/settlements?")}
        orphans = self._ground.pages("/api/settlements?orphans=true&")
        return Facts(
            bought=self._buyers.all,
            calls=list(self._buyers.calls),
            records=records,
            orphans=frozenset(str(record["id"]) for record in orphans),
            used=self._used(),
            sent=self._sent(),
            replicas=self._ground.replicas,
            diary=self._faults.diary,
            crashes=self._crashes(),
        )

    def _used(self) -> dict[str, list[str]]:
        """Every use of every nonce, from the token's own log."""
        query = {"address": TOKEN, "topics": [[USED]], "fromBlock": "0x0", "toBlock": "latest"}
        used: dict[str, list[str]] = defaultdict(list)
        for log in self._ground.world.chain.rpc("eth_getLogs", query):
            used[log["topics"][2]].append(log["transactionHash"])
        return dict(used)

    def _sent(self) -> dict[str, list[str]]:
        """What each facilitator was asked to settle, from its own diary."""
        sent: dict[str, list[str]] = defaultdict(list)
        for facilitator in self._ground.world.facilitators:
            events = self._ground.directory / f"{facilitator.name}.events"
            for line in events.read_text().splitlines() if events.exists() else ():
                kind, nonce, mode = json.loads(line)
                if kind == "settle":
                    sent[nonce].append(f"{mode} {facilitator.name}")
        return dict(sent)

    def _crashes(self) -> list[str]:
        found = list(self._faults.late)
        for replica in self._ground.replicas:
            for line in replica.log.read_text(errors="replace").splitlines():
                if any(words in line for words in NEVER) and EXCUSED not in line:
                    found.append(f"{replica.log.name}: {line}")
        return found

    def _keep(self, facts: Facts) -> None:
        """All that a person needs to find out what happened."""
        lives = {replica.number: [_shown(life) for life in replica.lives] for replica in facts.replicas}
        kept = {
            "calls": [_shown(call) for call in facts.calls],
            "records": list(facts.records.values()),
            "used": facts.used,
            "sent": facts.sent,
            "faults": [_shown(done) for done in facts.diary],
            "lives": lives,
        }
        (self._ground.directory / "facts.json").write_text(json.dumps(kept))


def _shown(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _is_over(record: dict[str, object]) -> bool:
    return record["money"] in ("failed", "failed_orphaned", "confirmed_late") or (
        record["money"] == "confirmed" and bool(record["chain_proven"])
    )
