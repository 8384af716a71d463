"""What goes wrong when: a list that follows from the seed alone. No I/O, no clock.

Each kind of fault has dice of its own, so that another rate for one leaves the others as they were.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

StoreKind = Literal["sqlite", "redis", "sentinel"]

DEADLINES = (
    "pending_200",
    "pending_500",
    "pending_202",
    "pending_no_hash",
    "rs_500",
    "go_500",
    "v1_failed",
    "page_504",
)
ANSWERS = ("http_500", "http_502", "http_503", "rate_limit", "garbage", "empty", "reset", "truncate")
PROVABLY_BEFORE = ("rate_limit", "gas_race")
"""Answers that stand for «not executed»: no service gives them after it has broadcast."""

FATES = ("cancelled", "replaced", "stuck")
LIES = (
    "fall_behind",
    "freeze",
    "stall",
    "answer_late",
    "claim_chain",
    "drop_logs",
    "drop_receipts",
    "limit",
    "answer_garbage",
    "mute",
)
CLOCK_STEP_S = 30.0
"""Clocks of honest machines differ by less; the guardian allows for a minute."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. at_s: from the start; target: which replica or facilitator; lasts_s: until
    it is put right, 0 where that is no question."""

    at_s: float
    kind: str
    target: int = 0
    lasts_s: float = 0.0
    what: str = ""
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:7.2f} {self.kind} {self.target} {self.what}{lasts}"


def plan(
    seed: int,
    seconds: float,
    *,
    replicas: int,
    facilitators: int,
    store: StoreKind,
    kill_every_s: float = 4.0,
) -> list[Fault]:
    """The faults of a run, in order. A shorter run is the beginning of a longer one."""
    shared = store != "sqlite"
    rows: list[tuple[str, float, Callable[[random.Random, float], Fault]]] = [
        ("replica", kill_every_s, lambda dice, at: _replica(dice, at, replicas)),
        ("facilitator", 4.0, lambda dice, at: _facilitator(dice, at, facilitators)),
        ("rpc", 9.0, _lie),
        ("network", 9.0, lambda dice, at: _network(dice, at, replicas, shared)),
        ("chain", 12.0, _chain),
        ("clock", 25.0, lambda dice, at: _clock(dice, at, replicas)),
    ]
    if shared:
        rows.append(("store", 20.0 if store == "redis" else 30.0, lambda dice, at: _store(dice, at, store)))
    faults = [fault for name, every_s, make in rows for fault in _series(seed, name, every_s, seconds, make)]
    return sorted(faults, key=lambda fault: fault.at_s)


def _series(
    seed: int, name: str, every_s: float, seconds: float, make: Callable[[random.Random, float], Fault]
) -> Iterator[Fault]:
    dice = random.Random(f"{seed}/{name}")
    at = dice.uniform(0.3, 1.0) * every_s
    while at < seconds:
        yield make(dice, at)
        at += dice.uniform(0.5, 1.5) * every_s


def _replica(dice: random.Random, at: float, replicas: int) -> Fault:
    target = dice.randrange(replicas)
    kind = dice.choices(("kill", "term", "pause"), (7, 2, 2))[0]
    return Fault(at, kind, target, dice.uniform(0.5, 6.0) if kind == "pause" else 0.0)


def _facilitator(dice: random.Random, at: float, facilitators: int) -> Fault:
    """A script of a few faults, used up by the next settles."""
    target = dice.randrange(facilitators)
    kind = dice.choices(("misbehave", "crash", "release"), (12, 1, 3))[0]
    if kind != "misbehave":
        return Fault(at, kind, target)
    script = [_reply(dice) for _ in range(dice.randint(1, 4))]
    modes = ",".join(f"{one['mode']}/{one['when']}" for one in script)
    return Fault(at, kind, target, what=modes, details={"script": script})


def _reply(dice: random.Random) -> dict[str, Any]:
    modes = dice.choices(
        (DEADLINES, ANSWERS, FATES, ("ok", "gas_race", "success_no_hash", "hang")), (5, 6, 2, 3)
    )
    mode, when = dice.choice(modes[0]), dice.choice(("before", "after"))
    return {
        "mode": mode,
        "when": "before" if mode in PROVABLY_BEFORE else when,
        "confirm": dice.random() < 0.3,
        "delay_s": round(dice.choice((0.0, 0.0, dice.uniform(0, 2))), 2),
        "wait_s": round(dice.uniform(0, 2), 2),
        "seconds": 20.0,
        "times": dice.randint(1, 3),
    }


def _lie(dice: random.Random, at: float) -> Fault:
    what = dice.choice(LIES)
    return Fault(at, "lie", 0, dice.uniform(1.0, 8.0), what, {"blocks": dice.randint(1, 8)})


def _network(dice: random.Random, at: float, replicas: int, shared: bool) -> Fault:
    kind = dice.choice(("cut_off_store", "cut_off_chain")) if shared else "cut_off_chain"
    what = dice.choice(("block", "cut", "slow"))
    lasts_s = dice.choice((dice.uniform(0.3, 3.0), dice.uniform(3.0, 12.0)))
    return Fault(at, kind, dice.randrange(replicas), lasts_s, what)


def _store(dice: random.Random, at: float, store: StoreKind) -> Fault:
    kinds = (
        ("store_crash", "store_freeze") if store == "redis" else ("store_crash", "store_freeze", "failover")
    )
    kind = dice.choice(kinds)
    return Fault(at, kind, 0, 0.0 if kind == "failover" else dice.uniform(0.3, 5.0))


def _chain(dice: random.Random, at: float) -> Fault:
    kind = dice.choice(("reorg", "reorg", "no_blocks"))
    if kind == "reorg":
        return Fault(at, kind, what=dice.choice(("same_place", "mempool")))
    return Fault(at, kind, lasts_s=dice.uniform(1.0, 5.0))


def _clock(dice: random.Random, at: float, replicas: int) -> Fault:
    step_s = dice.uniform(-CLOCK_STEP_S, CLOCK_STEP_S)
    return Fault(at, "clock", dice.randrange(replicas), what=f"{step_s:+.1f} s", details={"step_s": step_s})
