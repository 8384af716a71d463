"""When a network counts as unhealthy, by the payments and the circuits that this process has seen."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from guardian.app import build
from guardian.chain.target import Paid
from guardian.facilitator.circuit import OPEN, CircuitKey
from guardian.flow.health import ENOUGH, MAX_PAYMENTS, WINDOW_S, Health
from guardian.policy.model import Policy
from guardian.settlement.record import AGENT, FACILITATOR, Settlement
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from tests.flow.buy_scene import BuyScene, goods, signed
from tests.flow.scene import NETWORK, TX, ScriptedWatcher

LIMIT_S = 60.0
POLICY: dict[str, Any] = {
    "version": 1,
    "default": {"settlement_timeout_s": LIMIT_S},
    "facilitators": [{"name": "a", "url": "http://a"}, {"name": "b", "url": "http://b"}],
    "networks": {NETWORK: {"settlement_timeout_s": LIMIT_S}},
}


class Seen:
    """A health that payments are told to, and a clock."""

    def __init__(self, *, leads: bool = True) -> None:
        self.now = 1_000_000.0
        self.guardian = build(Policy.model_validate(POLICY), MemoryStore())
        self.parts = self.guardian.parts
        self.parts.clock = lambda: self.now
        self.chain = ScriptedWatcher()
        self.parts.watchers[NETWORK] = self.chain  # type: ignore[assignment]
        self.health = Health(self.parts, lambda network: leads)
        self.records: dict[int, Settlement] = {}

    def moves(self, nonce: int, money: Money, **facts: Any) -> None:
        old = self.records.get(nonce) or _record(nonce, self.now)
        new = _changed(old, money, facts)
        self.records[nonce] = new
        self.health.moved(SimpleNamespace(record=new), old)  # type: ignore[arg-type]

    def sends(self, count: int, **facts: Any) -> None:
        """So many payments that were broadcast and are in doubt."""
        for nonce in range(len(self.records), len(self.records) + count):
            self.moves(nonce, Money.UNRESOLVED, **{"hint": TX, "tainted": True} | facts)

    def proves(self, *nonces: int) -> None:
        for nonce in nonces:
            self.moves(nonce, Money.CONFIRMED_LATE, chain_proven=True)

    @property
    def fault(self) -> str:
        return self.health.fault(NETWORK, self.parts.generation)


def _record(nonce: int, now: float) -> Settlement:
    facts: dict[str, Any] = {"network": NETWORK, "network_as_sent": NETWORK, "asset": "0x1", "payer": "0x2"}
    facts |= {"x402_version": 2, "scheme": "exact", "method": "eip3009", "pay_to": "0x3", "amount": 1}
    more = {"plane": AGENT, "watched": True, "created_at": now, "updated_at": now}
    return Settlement(key=f"k{nonce}", id=f"pay_{nonce}", nonce=f"0x{nonce}", **facts, **more)  # type: ignore[arg-type]


def _changed(old: Settlement, money: Money, facts: dict[str, Any]) -> Settlement:
    return msgspec.structs.replace(old, money=money, **facts)


def test_what_nobody_has_seen_is_healthy() -> None:
    assert Seen().fault == ""
    assert Seen().health.fault("nowhere", Seen().parts.generation) == ""


def test_a_chain_that_cannot_be_followed_is_unhealthy() -> None:
    seen = Seen()
    seen.chain.healthy, seen.chain.fault = False, "no node answers"
    assert seen.fault == "no node answers"


def test_only_when_no_facilitator_is_left_its_circuit_counts() -> None:
    seen = Seen()
    for name, fault in (("a", ""), ("b", "every facilitator's circuit is open")):
        seen.parts.circuits.impose(CircuitKey(name, NETWORK, "settle"), OPEN)
        assert seen.fault == fault


def test_payments_that_the_chain_does_not_show_in_time_make_it_unhealthy() -> None:
    seen = Seen()
    seen.sends(ENOUGH)
    assert seen.fault == ""
    seen.now += LIMIT_S + 1
    assert seen.fault == f"{ENOUGH} of {ENOUGH} payments were late, lost or undelivered"


def test_payments_that_it_shows_in_time_keep_it_healthy() -> None:
    seen = Seen()
    seen.sends(3 * ENOUGH)
    seen.now += LIMIT_S - 1
    seen.proves(*range(3 * ENOUGH - 1))
    seen.now += 2
    assert seen.health.judged(NETWORK, seen.parts.generation) == (3 * ENOUGH, 1)
    assert seen.fault == ""


def test_a_confirmation_that_comes_late_is_late() -> None:
    seen = Seen()
    seen.sends(ENOUGH)
    seen.now += LIMIT_S + 1
    seen.proves(*range(ENOUGH))
    assert seen.fault


def test_a_few_payments_prove_nothing() -> None:
    seen = Seen()
    seen.sends(ENOUGH - 1)
    seen.now += LIMIT_S + 1
    assert seen.fault == ""


def test_after_the_window_it_is_tried_again() -> None:
    seen = Seen()
    seen.sends(ENOUGH)
    seen.now += LIMIT_S + 1
    assert seen.fault
    seen.now += WINDOW_S
    assert seen.fault == ""


@pytest.mark.parametrize(
    "facts",
    [{"hint": None}, {"hint": None, "reason": "http_500"}, {"paid_by": "another"}],
)
def test_a_payment_that_nobody_has_broadcast_says_nothing(facts: dict[str, Any]) -> None:
    seen = Seen()
    seen.sends(ENOUGH, **facts)
    seen.now += LIMIT_S + 1
    assert seen.fault == ""


def test_what_a_facilitator_had_from_us_counts_without_a_hash() -> None:
    seen = Seen()
    seen.sends(ENOUGH, hint=None, plane=FACILITATOR)
    seen.now += LIMIT_S + 1
    assert seen.fault


def test_what_was_refused_before_it_was_sent_says_nothing() -> None:
    seen = Seen()
    for nonce in range(ENOUGH):
        seen.moves(nonce, Money.FAILED)
    seen.now += LIMIT_S + 1
    assert seen.health.judged(NETWORK, seen.parts.generation) == (0, 0)


def test_orphans_count_unless_their_seller_refused() -> None:
    for reason, fault in (("reply_lost", True), ("http_402", False)):
        seen = Seen()
        seen.sends(ENOUGH, reason=reason)
        for nonce in range(ENOUGH):
            seen.moves(nonce, Money.CONFIRMED_LATE, chain_proven=True, answer=Answer.REFUSED)
        assert bool(seen.fault) is fault


def test_a_replica_that_does_not_watch_a_network_judges_only_what_it_saw() -> None:
    seen = Seen(leads=False)
    seen.sends(ENOUGH)
    seen.now += LIMIT_S + 1
    assert seen.fault == ""


def test_what_was_over_before_is_not_counted_when_it_is_delivered() -> None:
    seen = Seen()
    for nonce in range(ENOUGH):
        seen.records[nonce] = _changed(_record(nonce, 1.0), Money.CONFIRMED_LATE, {"chain_proven": True})
        seen.moves(nonce, Money.CONFIRMED_LATE, answer=Answer.ACCEPTED)
    assert seen.health.judged(NETWORK, seen.parts.generation) == (0, 0)


def test_the_memory_is_bounded() -> None:
    seen = Seen()
    seen.sends(3 * MAX_PAYMENTS)
    seen.now += LIMIT_S + 1
    assert seen.health.judged(NETWORK, seen.parts.generation)[0] == MAX_PAYMENTS


def test_a_real_purchase_is_counted_once_the_chain_has_shown_it() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 200
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.chain_proven)
        judged = scene.guardian.settle.health.judged(NETWORK, scene.guardian.parts.generation)
        assert judged == (1, 0)

    BuyScene(goods()).play(script)
