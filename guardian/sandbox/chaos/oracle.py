"""What must hold at the end of a trial, held against the chain. Facts come in, findings go out: no I/O.

The chain's own logs say what was paid; the facilitators' diaries what was sent; the callers' what was heard.
Nothing here believes a record.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guardian.sandbox.chaos.buyers import Bought, Call
from guardian.sandbox.chaos.faults import Done
from guardian.sandbox.chaos.ground import HOLD_WITHOUT_HASH_S, Replica
from guardian.sandbox.chaos.schedule import PROVABLY_BEFORE

Record = Mapping[str, Any]

OPEN = frozenset({"idle", "pending", "unresolved", "polling"})
PAID = frozenset({"confirmed", "confirmed_late"})
NOT_HANDED_OUT = frozenset({"pending", "refused", "abandoned"})
AGAIN = frozenset({"resent", "presented_again"})
"""Lines of the audit trail after which an authorization may go out once more."""

JUST_BEFORE_S = 2.0
"""An answer that a process gave so shortly before its end may not be in its record."""

ALONE_S = 10.0
"""So long a replica that is cut off from the store keeps others from handing out its success."""

AT_ONCE_S = 1.5
"""A caller that hung up within this of an answer may have left between its writing and its arrival."""

WAIT_LIMIT_S = HOLD_WITHOUT_HASH_S + 3 * 3.0 + 2.0
"""The hold, a store that keeps three operations waiting, and a busy machine."""

STORE_FAULTS = frozenset({"store_crash", "store_freeze", "failover"})


@dataclass(slots=True)
class Facts:
    """All that is known when everything is over. used: nonce → transactions that moved its money; sent:
    nonce → the mode of the facilitator at each /settle of it."""

    bought: Sequence[Bought]
    calls: Sequence[Call]
    records: Mapping[str, Record]
    orphans: frozenset[str]
    used: Mapping[str, Sequence[str]]
    sent: Mapping[str, Sequence[str]]
    replicas: Sequence[Replica]
    diary: Sequence[Done]
    crashes: Sequence[str] = ()
    """Lines of the guardians' logs that no fault excuses."""


@dataclass(slots=True)
class Judgement:
    """violations: what must never be; excused: what a crash or a partition may cause, by its name."""

    violations: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def judge(facts: Facts) -> Judgement:
    """Everything that must hold before the orphans are asked for."""
    judgement = Judgement()
    heard: dict[str, list[Call]] = defaultdict(list)
    for call in facts.calls:
        if call.success:
            heard[_named(facts, call)].append(call)
    for check in (_money, _sent_twice, _purchases, _waits, _logs):
        judgement.violations += check(facts)
    judgement.violations += _successes(facts)
    _deliveries(facts, heard, judgement)
    _orphans(facts, heard, judgement)
    return judgement


def judge_repeats(first: Mapping[str, Call], second: Mapping[str, Call], facts: Facts) -> list[str]:
    """Each orphan's payload asked for twice: the success once, then never again."""
    wrong = []
    for nonce, call in first.items():
        if not call.success or [call.transaction] != list(facts.used.get(nonce, ())):
            wrong.append(f"orphan {nonce} was not handed out when asked for: {call.text[:160]}")
    for nonce, call in second.items():
        if call.success or call.reason != "duplicate_settlement":
            wrong.append(f"orphan {nonce} was not called a duplicate the second time: {call.text[:160]}")
    return wrong


# -- money


def _money(facts: Facts) -> Iterator[str]:
    for nonce, transactions in facts.used.items():
        if len(transactions) > 1:
            yield f"{nonce}: {len(transactions)} transfers of one authorization"
        if nonce not in facts.records:
            yield f"{nonce}: money moved without a record"
    for nonce, record in facts.records.items():
        used = list(facts.used.get(nonce, ()))
        if record["money"] in OPEN:
            yield f"{nonce}: left open as {record['money']} ({_trail(record)})"
        elif (record["money"] in PAID) != bool(used):
            yield f"{nonce}: recorded {record['money']}, on chain {used} ({_trail(record)})"
        elif used and record["transaction"] != used[0]:
            yield f"{nonce}: recorded {record['transaction']}, on chain {used[0]}"
        if record["unpaid"]:
            yield f"{nonce}: handed out and not paid ({_trail(record)})"


def _sent_twice(facts: Facts) -> Iterator[str]:
    """A settle that may have been executed goes out again on the chain's word only (law 6)."""
    for nonce, modes in facts.sent.items():
        record = facts.records.get(nonce)
        if record is None:
            yield f"{nonce}: sent without a record"
            continue
        ambiguous = [mode for mode in modes if mode.split(" ")[0] not in PROVABLY_BEFORE]
        allowed = 1 + sum(event["name"] in AGAIN for event in record["events"])
        if len(ambiguous) > allowed:
            yield f"{nonce}: settled {len(ambiguous)} times, {allowed} allowed: {modes} ({_trail(record)})"


def _purchases(facts: Facts) -> Iterator[str]:
    for one in facts.bought:
        paid = [nonce for nonce in one.nonces if facts.used.get(nonce)]
        if len(paid) > 1:
            trails = "; ".join(f"{nonce[:12]} {_trail(facts.records[nonce])}" for nonce in paid)
            heard = [
                f"{c.nonce[:12]} {c.kind} {c.reason} @{c.ended:.2f}"
                for c in facts.calls
                if c.nonce in one.nonces
            ]
            yield f"purchase {one.number} ({one.style}) was paid {len(paid)} times: {trails}; heard {heard}"


def _waits(facts: Facts) -> Iterator[str]:
    for call in facts.calls:
        stopped_s = sum(
            max(0.0, min(done.ended, call.ended) - max(done.begun, call.begun))
            for done in facts.diary
            if done.kind == "pause" and done.target == call.replica
        )
        waited_s = call.ended - call.begun - stopped_s
        if waited_s > WAIT_LIMIT_S or call.kind == "late":
            yield f"{call.nonce}: a caller of replica {call.replica} waited {waited_s:.1f} s ({call.kind})"


def _logs(facts: Facts) -> Iterator[str]:
    for line in facts.crashes:
        yield f"in a log: {line[:300]}"


# -- deliveries


def _successes(facts: Facts) -> Iterator[str]:
    """A success names the transfer that is on chain, of this authorization or of the same purchase."""
    of = {nonce: one for one in facts.bought for nonce in one.nonces}
    for call in facts.calls:
        if call.success:
            own = {tx for nonce in of[call.nonce].nonces for tx in facts.used.get(nonce, ())}
            if _named(facts, call) not in own:
                yield f"{call.nonce}: told success with {call.transaction!r}, on chain {sorted(own)}"


def _named(facts: Facts, call: Call) -> str:
    """The transaction of a success; the chain's where its facilitator said yes and named none, and no block
    did before the hold was over."""
    used = facts.used.get(call.nonce, ())
    bare = any(mode.startswith("success_no_hash ") for mode in facts.sent.get(call.nonce, ()))
    return used[0] if not call.transaction and used and bare else call.transaction


def _deliveries(facts: Facts, heard: Mapping[str, Sequence[Call]], judgement: Judgement) -> None:
    for transaction, calls in heard.items():
        ordered = sorted(calls, key=lambda call: call.ended)
        for earlier, later in itertools.pairwise(ordered):
            if excuse := _unrecorded(facts, earlier):
                judgement.excused[f"second delivery: {excuse}"] += 1
            else:
                judgement.violations.append(
                    f"{transaction} was delivered at {earlier.ended:.2f} by replica {earlier.replica} and"
                    f" again at {later.ended:.2f} by replica {later.replica}"
                    f" ({_trail(facts.records[earlier.nonce])})"
                )


def _unrecorded(facts: Facts, call: Call) -> str:
    """Why a success that was heard may not stand in its record."""
    life = facts.replicas[call.replica].lives[call.life - 1]
    if life.ended is not None and call.ended - 0.5 <= life.ended <= call.ended + JUST_BEFORE_S:
        return "its replica was ended between writing and recording"
    for done in facts.diary:
        near = done.begun - AT_ONCE_S <= call.ended <= done.ended + AT_ONCE_S
        if near and done.kind == "cut_off_store" and done.target == call.replica:
            return "its replica was cut off from the store"
        if near and done.kind in STORE_FAULTS:
            return "the store was away"
        if near and done.kind == "pause" and done.target == call.replica:
            return "its replica was stopped"
    return ""


def _orphans(facts: Facts, heard: Mapping[str, Sequence[Call]], judgement: Judgement) -> None:
    for nonce, transactions in facts.used.items():
        record = facts.records.get(nonce)
        if record is None or not transactions:
            continue
        listed = record["id"] in facts.orphans
        delivered = heard.get(transactions[0], ())
        if not delivered and not listed:
            if _hung_up(facts, nonce, record):
                judgement.excused["written to a caller that was hanging up"] += 1
            else:
                judgement.violations.append(f"{nonce}: paid, heard by nobody, not listed ({_trail(record)})")
        if delivered and listed:
            if excuse := _unrecorded(facts, delivered[-1]):
                judgement.excused[f"delivered and listed as orphan: {excuse}"] += 1
            else:
                judgement.violations.append(
                    f"{nonce}: heard at {delivered[-1].ended:.2f} from replica {delivered[-1].replica},"
                    f" listed as orphan ({_trail(record)})"
                )
        if listed and record["answer"] not in NOT_HANDED_OUT:
            judgement.violations.append(f"{nonce}: listed as orphan with answer {record['answer']}")


def _hung_up(facts: Facts, nonce: str, record: Record) -> bool:
    """The success was written at the moment at which its caller left, or its process was ended."""
    told = [event["at"] for event in record["events"] if event["name"] == "delivered"]
    calls = [call for call in facts.calls if call.nonce == nonce and call.kind in ("left", "broken")]
    # By the wall clock, or by the time since the beginning: that of its replica may have been stepped.
    spans = [(call.ended, call.ended - call.begun) for call in calls]
    return any(
        abs(at - ended) <= AT_ONCE_S or abs(at - record["created_at"] - lasted) <= AT_ONCE_S
        for at in told
        for ended, lasted in spans
    )


def _trail(record: Record) -> str:
    """The audit trail in one line."""
    begun = record["created_at"]
    steps = (
        f"{event['at'] - begun:+.2f} {event['name']}" + (f" [{event['note'][:60]}]" if event["note"] else "")
        for event in record["events"]
    )
    return f"owner {record['owner'][-8:]}: " + ", ".join(steps)


# -- the table


def figures(facts: Facts, judgement: Judgement) -> list[tuple[str, object]]:
    """The closing table."""
    calls = Counter(call.kind for call in facts.calls)
    events = Counter(str(event["name"]) for record in facts.records.values() for event in record["events"])
    faults = Counter(done.kind for done in facts.diary if done.done)
    paid = sum(bool(used) for used in facts.used.values())
    waits = sorted(call.ended - call.begun for call in facts.calls if call.kind == "answered")
    return [
        ("purchases", len(facts.bought)),
        ("authorizations", len({call.nonce for call in facts.calls})),
        ("calls of /settle", len(facts.calls)),
        ("  answered / broken / left / late", _row(calls, "answered", "broken", "left", "late")),
        ("  503", sum(call.status == 503 for call in facts.calls)),
        ("  successes heard", sum(call.success for call in facts.calls)),
        ("  told duplicate", sum(call.reason == "duplicate_settlement" for call in facts.calls)),
        ("longest / median wait, s", f"{waits[-1]:.1f} / {waits[len(waits) // 2]:.2f}" if waits else "-"),
        ("transfers on chain", paid),
        ("records", len(facts.records)),
        ("  in doubt / resent / taken up", _row(events, "doubt", "resent", "taken_up")),
        ("  confirmed late / never moved", _moneys(facts.records.values())),
        ("  paid for by another of the purchase", sum(bool(r["paid_by"]) for r in facts.records.values())),
        ("orphans listed", len(facts.orphans)),
        ("faults done", sum(faults.values())),
        *((f"  {kind}", count) for kind, count in sorted(faults.items())),
        *((f"excused: {why}", count) for why, count in sorted(judgement.excused.items())),
        ("violations", len(judgement.violations)),
    ]


def _row(counted: Mapping[str, int], *names: str) -> str:
    return " / ".join(str(counted.get(name, 0)) for name in names)


def _moneys(records: Iterable[Record]) -> str:
    counted = Counter(str(record["money"]) for record in records)
    return f"{counted['confirmed_late']} / {counted['failed_orphaned'] + counted['failed']}"
