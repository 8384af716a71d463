"""Which facilitators are asked, and in which order."""

import asyncio
from collections import Counter

import pytest

from guardian.errors import NotSent
from guardian.facilitator.choice import Facilitators, Member
from guardian.facilitator.client import Facilitator
from guardian.policy.units import Pace
from tests.facilitator.choice_stage import BASE, MAINNET, Script, kind, says

KEYS = [f"payment {number}" for number in range(400)]


def test_candidates_stand_in_the_policys_order() -> None:
    assert Script(b"", b"", b"").candidates() == "abc"


def test_open_circuit_takes_its_facilitator_out_until_a_trial_is_due() -> None:
    script = Script(b"", b"")
    script.trip("a")
    assert script.candidates() == "b"
    assert script.candidates("eip155:1") == "ab"
    script.now += 30.0
    assert script.candidates() == "ab"


def test_looking_for_candidates_takes_no_trial() -> None:
    script = Script(b"")
    script.trip("a")
    script.now += 30.0
    assert [script.candidates() for _ in range(3)] == ["a", "a", "a"]


def test_all_circuits_open_leaves_nobody() -> None:
    script = Script(b"", b"")
    script.trip("a")
    script.trip("b")
    assert script.candidates() == ""


def test_facilitator_that_does_not_support_the_kind_is_left_out() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    assert script.candidates(BASE) == "a"
    assert script.candidates("eip155:1") == "b"
    assert script.candidates("eip155:1", version=2) == "b"


def test_wildcard_supports_every_network_of_its_family() -> None:
    script = Script(says(kind("solana:*")), says(kind("eip155:*")))
    script.supported()
    assert script.candidates("eip155:424242") == "b"


def test_v1_names_stand_for_their_networks() -> None:
    script = Script(says(kind(BASE, version=2)), says(kind("base", version=1)))
    script.supported()
    assert script.candidates(BASE, version=1) == "b"
    assert script.candidates(BASE, version=2) == "a"
    assert script.candidates(BASE) == "ab"


def test_unread_supported_keeps_a_facilitator_in() -> None:
    script = Script(says(kind("eip155:1")), 500)
    script.supported()
    assert script.candidates(BASE) == "b"


def test_kind_that_nobody_claims_goes_to_the_first() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    assert script.candidates("near:mainnet", "new-scheme") == "a"


def test_payment_is_not_sent_to_one_that_cannot_take_it_because_the_other_is_down() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    script.trip("a")
    assert script.candidates(BASE) == ""


def test_facilitator_is_found_by_name() -> None:
    script = Script(b"", b"")
    found = script.all.named("b")
    assert found is not None
    assert found.url == "http://b.test"
    assert script.all.named("x") is None


def test_lower_order_is_asked_first_wherever_it_stands() -> None:
    script = Script(b"", b"", b"")
    orders = {"a": 2, "b": 0, "c": 1}
    script.all = script.facilitators([Member(script.client(name), order) for name, order in orders.items()])
    assert script.candidates() == "bca"
    assert script.candidates(key="any payment") == "bca"
    assert [one.name for one in script.all.all] == ["b", "c", "a"]


def test_equals_share_payments_by_weight() -> None:
    script = Script(b"", b"", b"")
    script.share(1, 2, 5)
    keys = [f"payment {number}" for number in range(4000)]
    first = Counter(script.candidates(key=key)[0] for key in keys)
    assert [round(first[name] / 500) for name in "abc"] == [1, 2, 5]


def test_payment_finds_the_same_facilitator_every_time_in_every_process() -> None:
    script, other = Script(b"", b"", b""), Script(b"", b"", b"")
    script.share(1, 1, 1)
    other.share(1, 1, 1)
    for key in KEYS:
        assert script.candidates(key=key) == other.candidates(key=key)
        verify = script.all.candidates(BASE, "exact", "verify", x402_version=2, key=key)
        assert verify[0].name == script.candidates(key=key)[0]


def test_open_circuit_moves_only_the_payments_of_its_facilitator() -> None:
    script = Script(b"", b"", b"")
    script.share(1, 2, 3)
    before = {key: script.candidates(key=key) for key in KEYS}
    script.trip("b")
    assert {key: script.candidates(key=key) for key in KEYS} == {
        key: order.replace("b", "") for key, order in before.items()
    }


def test_each_network_is_shared_among_those_that_support_it() -> None:
    script = Script(says(kind(BASE)), says(kind(BASE), kind(MAINNET)), says(kind(MAINNET)))
    script.share(1, 1, 1)
    script.supported()
    assert {"".join(sorted(script.candidates(BASE, key=key))) for key in KEYS} == {"ab"}
    assert {script.candidates(MAINNET, key=key)[0] for key in KEYS} == {"b", "c"}


def test_equals_stand_in_the_policys_order_for_a_payment_without_key() -> None:
    script = Script(b"", b"", b"")
    script.share(1, 9, 1)
    assert script.candidates() == "abc"


def test_lower_order_comes_before_heavier_weight() -> None:
    script = Script(b"", b"", b"")
    members = [("a", 1, 1.0), ("b", 1, 1.0), ("c", 2, 1000.0)]
    script.all = script.facilitators(
        [Member(script.client(n), order, weight) for n, order, weight in members]
    )
    assert {script.candidates(key=key)[2] for key in KEYS} == {"c"}
    assert {script.candidates(key=key)[0] for key in KEYS} == {"a", "b"}


def test_key_that_is_no_text_still_finds_a_facilitator() -> None:
    script = Script(b"", b"")
    script.share(1, 1)
    assert sorted(script.candidates(key="\ud800")) == ["a", "b"]


def test_payment_that_is_bound_goes_to_its_facilitator_or_to_none() -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))
    script.supported()
    assert script.candidates(BASE, only="b") == "b"
    script.trip("b")
    assert script.candidates(BASE, only="b") == ""
    assert script.candidates(BASE, only="unheard of") == ""


def test_facilitator_is_found_by_the_address_it_signs_with() -> None:
    solana = kind("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", extra={"feePayer": "FeePayerOfA"})
    script = Script(
        says(solana), says(kind(BASE), signers={"eip155:*": ["0xAb"], "odd": 1, "more": [1, "S"]})
    )
    assert script.all.signing_as("FeePayerOfA") == ""
    script.supported()
    assert script.all.signing_as("FeePayerOfA") == "a"
    assert script.all.signing_as("feepayerofa") == ""
    assert script.all.signing_as("0xaB") == "b"
    assert script.all.signing_as("S") == "b"
    assert script.all.signing_as("0xcd") == ""


def test_kind_is_unclaimed_only_once_everyone_has_spoken() -> None:
    script = Script(says(kind(BASE)), 500)
    assert script.all.claimed(BASE, "exact") is None
    script.supported()
    assert script.all.claimed(BASE, "exact", 2) is True
    assert script.all.claimed(MAINNET, "exact", 2) is None
    script.says["b"] = says()
    script.now += 60.0
    script.supported()
    assert script.all.claimed(MAINNET, "exact", 2) is False
    assert script.all.claimed(BASE, "exact", 1) is False


def test_failover_goes_to_all_others_unless_the_policy_names_them() -> None:
    script = Script(b"", b"", b"")
    script.all = script.facilitators(
        [
            Member(script.client("a"), 0, failover_to=("c", "a", "gone")),
            Member(script.client("b"), 1, failover_to=()),
            Member(script.client("c"), 2),
        ]
    )
    assert script.all.failover("a") == {"c"}
    assert script.all.failover("b") == set()
    assert script.all.failover("c") == {"a", "b"}
    assert script.all.failover("gone") == {"a", "b", "c"}


def test_replaced_facilitator_keeps_its_client_and_what_it_said_while_name_and_url_stay() -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))
    script.supported()
    old = {one.name: one for one in script.all.all}
    script.all, unused = script.all.replaced([script.client("b"), script.client("a"), script.client("c")])
    assert [one.name for one in script.all.all] == ["b", "a", "c"]
    assert script.all.named("a") is old["a"]
    assert script.all.named("b") is old["b"]
    assert not {one.name for one in script.all.all} & {one.name for one in unused if one in old.values()}
    assert sorted(one.name for one in unused) == ["a", "b"]  # the new clients that nothing needed
    assert script.candidates(BASE) == "ac"
    assert script.candidates(MAINNET) == "bc"


def test_facilitator_that_moved_or_went_gives_its_client_back_and_loses_its_past() -> None:
    script = Script(says(kind(BASE)), says(kind(BASE)), says(kind(BASE)))
    script.supported()
    old = script.all
    for name in "abc":
        script.trip(name)
    script.all, unused = old.replaced([script.client("a", "http://b.test"), script.client("c")])
    assert {one.url for one in unused if one in old.all} == {"http://a.test", "http://b.test"}
    assert list(script.circuits.states()) == [("c", BASE, "settle")]
    assert script.candidates(MAINNET) == "a"  # what it says under its new URL is not known yet
    assert old.named("b") is not None


def test_limits_are_counted_on_when_the_policy_is_read_anew() -> None:
    script = Script(b"")
    script.share(1, max_settles=1, pace=Pace(5, 1.0))

    async def run() -> None:
        before, client = script.all, script.all.all[0]
        async with before.turn(client, BASE, "settle", 0.0):
            after, _ = before.replaced([Member(script.client("a"), max_settles=1, pace=Pace(2, 1.0))])
            with pytest.raises(NotSent, match="busy"):
                await enter(after, client, BASE, "settle")
            await enter(after, client, MAINNET, "settle")
            with pytest.raises(NotSent, match="busy"):
                await enter(after, client, MAINNET, "verify")

    asyncio.run(run())


async def enter(facilitators: Facilitators, client: Facilitator, network: str, operation: str) -> None:
    async with facilitators.turn(client, network, operation, 0.0):
        pass


def test_turn_of_a_facilitator_that_is_gone_is_free() -> None:
    script = Script(b"")
    script.share(1, max_settles=1)
    gone = script.client("gone")

    async def run() -> None:
        async with script.all.turn(gone, BASE, "settle", 0.0), script.all.turn(gone, BASE, "settle", 0.0):
            pass

    asyncio.run(run())
