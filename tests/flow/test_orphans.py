"""Orphans leave the queue: replayed, refunded or written off; and those that a crash has left enter it."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from guardian.chain.rpc import Endpoints
from guardian.chain.target import Paid
from guardian.errors import CannotClose, IllegalMove
from guardian.flow.orphans import Orphans, close_in_store, refund_unverified, write_off
from guardian.flow.reconcile import look
from guardian.settlement.record import Settlement, after_money
from guardian.settlement.states import Answer, Money, MoneyEvent
from guardian.store.memory import MemoryStore
from tests.chain.scripted_node import Node, transfer, used
from tests.flow.scene import NETWORK, OTHER_TX, PAYER, SELLER, TX, USDC, Scene, settled, signed_payment
from tests.store.conftest import settlement

LOST = httpx.ReadTimeout("no reply")
SHORT = {"hold_s": 0.1, "hold_without_hash_s": 0.2}
BUYER = PAYER.address.lower()


async def orphan(scene: Scene) -> Settlement:
    """A payment that the chain shows and whose caller was told a failure."""
    await scene.settle(signed_payment(1))
    scene.chain.say(Paid(TX, 4, 1))
    return await scene.until_record(lambda record: record.orphan)


def chain_of(scene: Scene, *events: dict[str, Any], status: int = 1) -> tuple[Node, str]:
    """Let the scene's network be read: a node with one transaction."""
    node = Node(chain_id=84532)
    hash = node.include(1, *events, status=status)
    scene.chain.endpoints = Endpoints(NETWORK, [], wires=[("n", node)], wall_clock=lambda: 0)  # type: ignore[assignment]
    return node, hash


def queue(scene: Scene) -> Orphans:
    return Orphans(scene.guardian.parts, scene.flow)


def give_back(amount: int = 10_000, **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"payer": SELLER, "pay_to": BUYER, "amount": amount, "asset": USDC}
    return transfer(**(facts | changes))


def test_a_refunded_orphan_leaves_the_queue_and_buys_nothing_any_more() -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        _, hash = chain_of(scene, give_back())
        closed = await queue(scene).refund(record, hash.upper().replace("0X", "0x"), "ann", "by hand")
        assert (closed.closed_by, closed.refund_transaction, closed.orphan) == ("ann", hash, False)
        assert (closed.events[-1].name, closed.events[-1].note) == (
            "refunded",
            f"by ann: {hash} by hand",
        )
        again = await scene.settle(signed_payment(1))
        assert (again.heard["success"], again.heard["errorReason"]) == (False, "duplicate_settlement")
        assert hash in again.heard["errorMessage"]
        fresh = await scene.settle(signed_payment(2))
        assert (fresh.heard["success"], len(scene.settles)) == (True, 2)
        assert (await scene.record(record.key)).answer is not Answer.ACCEPTED

    Scene(LOST, settled("0x" + "ef" * 32), **SHORT).play(script)


def test_a_written_off_orphan_leaves_the_queue_and_its_metric_counts() -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        closed = await queue(scene).write_off(record, "a test of ours", "ann")
        assert (closed.closed_note, closed.refund_transaction) == ("a test of ours", None)
        assert await scene.store.page(orphans=True) == []
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        assert 'guardian_orphans_closed_total{how="written_off"' in page
        with pytest.raises(IllegalMove, match="closed before, by ann"):
            await queue(scene).write_off(record, "again", "bob")

    Scene(LOST, **SHORT).play(script)


NO_REFUNDS = [
    ([], 1),
    ([give_back(9_999)], 1),
    ([give_back(payer="0x" + "77" * 20)], 1),
    ([give_back(pay_to="0x" + "77" * 20)], 1),
    ([give_back(asset="0x" + "77" * 20)], 1),
    ([give_back()], 0),
]


@pytest.mark.parametrize(("events", "status"), NO_REFUNDS)
def test_a_transaction_that_gives_nothing_back_is_no_refund_unless_a_person_insists(
    events: list[dict[str, Any]], status: int
) -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        _, hash = chain_of(scene, *events, status=status)
        with pytest.raises(CannotClose, match="unverified"):
            await queue(scene).refund(record, hash, "ann")
        assert (await scene.record()).orphan
        closed = await queue(scene).refund(record, hash, "ann", unverified=True)
        assert closed.closed_note == "(not checked against the chain)"

    Scene(LOST, **SHORT).play(script)


def test_two_transfers_of_one_transaction_may_make_a_refund() -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        _, hash = chain_of(scene, give_back(4_000), give_back(6_000))
        assert not (await queue(scene).refund(record, hash, "ann")).orphan

    Scene(LOST, **SHORT).play(script)


def test_a_refund_waits_where_no_node_answers_or_none_knows_it() -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        node, hash = chain_of(scene, give_back())
        with pytest.raises(CannotClose, match=r"no node knows that transaction .* unverified"):
            await queue(scene).refund(record, "0x" + "12" * 32, "ann")
        node.down = True
        with pytest.raises(CannotClose, match=r"no RPC endpoint .* unverified"):
            await queue(scene).refund(record, hash, "ann")

    Scene(LOST, **SHORT).play(script)


@pytest.mark.parametrize("hash", ["", "0x12", "0x" + "zz" * 32, TX])
def test_what_is_no_hash_of_a_refund_is_refused(hash: str) -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        with pytest.raises(CannotClose, match="transaction"):
            await queue(scene).refund(record, hash, "ann", unverified=True)

    Scene(LOST, **SHORT).play(script)


@pytest.mark.parametrize("by", ["", "  ", "x" * 101, "a\x1bb"])
def test_who_closes_an_orphan_has_a_name(by: str) -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        with pytest.raises(CannotClose, match="by: "):
            await queue(scene).write_off(record, "because", by)
        with pytest.raises(CannotClose, match="by: "):
            await queue(scene).refund(record, OTHER_TX, by, unverified=True)

    Scene(LOST, **SHORT).play(script)


def test_a_success_that_is_being_handed_out_is_not_closed_and_what_was_handed_out_neither() -> None:
    async def script(scene: Scene) -> None:
        record = await orphan(scene)
        live = await scene.flow.lives.attach(record)
        async with scene.flow.handing.alone_with(live):
            closing = asyncio.create_task(queue(scene).write_off(record, "because", "ann"))
            await asyncio.sleep(0)
            await scene.flow.handing.delivered(live)
        with pytest.raises(CannotClose, match="handed out"):
            await closing
        with pytest.raises(IllegalMove, match="no orphan"):
            await queue(scene).write_off(await scene.record(), "because", "ann")

    Scene(LOST, **SHORT).play(script)


def test_what_the_chain_has_not_proven_is_not_refunded() -> None:
    store = MemoryStore()

    async def script(scene: Scene) -> None:
        facts = {"network": NETWORK, "money": Money.CONFIRMED, "answer": Answer.REFUSED}
        record = settlement(**facts, watched=True, owner=scene.guardian.parts.replica)
        await store.claim(record)
        with pytest.raises(IllegalMove, match="not proven"):
            await queue(scene).refund(record, OTHER_TX, "ann", unverified=True)

    Scene(settled(), store=store).play(script)


CRASHED = [
    {"money": money, "answer": answer} | proof
    for money in (Money.CONFIRMED, Money.CONFIRMED_LATE)
    for answer in (Answer.NONE, Answer.HELD)
    for proof in ({"watched": False}, {"watched": True, "chain_proven": True, "transaction": TX})
]


@pytest.mark.parametrize("facts", CRASHED)
def test_a_success_that_a_dead_process_told_nobody_is_an_orphan_after_the_start(
    facts: dict[str, Any],
) -> None:
    store = MemoryStore()
    left = settlement(network=NETWORK, owner="dead", **facts)

    async def before() -> None:
        await store.open()
        await store.claim(left)

    async def script(scene: Scene) -> None:
        record = await scene.record()
        assert (record.orphan, record.answer) == (True, Answer.ABANDONED)
        assert len(scene.flow.lives) == 0
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        found = [line for line in page.splitlines() if line.startswith("guardian_orphans_found_total{")]
        assert sum(float(line.split()[-1]) for line in found) == 1
        assert await store.open_records() == []

    asyncio.run(before())
    Scene(settled(), store=store).play(script)


def test_a_success_that_this_process_is_just_telling_is_left_alone() -> None:
    store = MemoryStore()

    async def script(scene: Scene) -> None:
        mine = settlement(network=NETWORK, owner=scene.guardian.parts.replica, money=Money.CONFIRMED)
        await store.claim(mine)
        await scene.flow.replicas.look()
        assert await store.get(mine.key) == mine

    Scene(settled(), store=store).play(script)


def test_a_success_that_a_live_replica_is_just_telling_is_taken_up_only_once_that_is_gone() -> None:
    store = MemoryStore()

    async def script(scene: Scene) -> None:
        theirs = settlement(network=NETWORK, owner="other", money=Money.CONFIRMED)
        await store.claim(theirs)
        me = scene.guardian.parts.replica
        assert await scene.flow.replicas.take_up(frozenset({me, "other"})) == 0
        assert await store.get(theirs.key) == theirs
        assert await scene.flow.replicas.take_up(frozenset({me})) == 1
        assert (await scene.record()).orphan

    Scene(settled(), store=store).play(script)


def test_a_look_begins_a_watch_that_is_missing_and_ends_none() -> None:
    store = MemoryStore()

    async def script(scene: Scene) -> None:
        facts = {"network": NETWORK, "watched": True, "owner": scene.guardian.parts.replica}
        record = settlement(**facts, money=Money.POLLING, nonce="0x" + "12" * 32)
        await store.claim(record)
        await scene.flow.replicas.look()
        assert list(scene.chain.targets) == [record.key]
        await scene.flow.replicas.look()
        assert scene.flow.watch.watching(record.key)

    Scene(settled(), store=store).play(script)


def test_what_is_not_over_is_told_beside_what_the_chain_shows() -> None:
    store = MemoryStore()
    mine: dict[str, Any] = {"network": NETWORK, "asset": USDC, "payer": BUYER, "pay_to": SELLER}
    nonces = ["0x" + f"{number:064x}" for number in range(1, 6)]

    async def script(scene: Scene) -> None:
        mine["owner"] = scene.guardian.parts.replica
        _, hash = chain_of(
            scene,
            used(nonces[0], BUYER, USDC),
            transfer(pay_to=SELLER, amount=10_000, payer=BUYER, asset=USDC),
        )
        doubt = {"money": Money.POLLING, "watched": True}
        for number, facts in enumerate(
            [
                doubt | {"hint": hash},
                doubt | {"valid_before": 1},
                doubt,
                {"money": Money.UNRESOLVED},
                {"money": Money.CONFIRMED, "answer": Answer.REFUSED},
            ]
        ):
            named = {"resource": f"/{number}", "created_at": float(number)}
            await store.claim(settlement(nonces[number], **(mine | named | facts)))
        said = [(one.chain, one.then) for one in await look(scene.guardian.parts)]
        assert said == [
            (f"paid in {hash}, block 100", "waits for the chain's proof"),
            ("nonce unused, the authorization has expired", "waits for the chain's proof"),
            ("nonce unused", "waits for the chain's proof"),
            ("not watched", "no chain is watched: ask the facilitator"),
            ("not watched", "deliver, refund or write off"),
        ]
        assert await look(scene.guardian.parts, ["eip155:1"]) == []
        scene.chain.endpoints = None
        scene.guardian.parts.watchers.clear()
        assert (await look(scene.guardian.parts))[0].chain.startswith("no answer: ")

    Scene(settled(), store=store).play(script)


def test_without_a_running_guardian_an_orphan_is_closed_in_the_store() -> None:
    async def script() -> None:
        store = MemoryStore()
        await store.open()
        one = settlement("1", money=Money.CONFIRMED, answer=Answer.REFUSED)
        two = settlement("2", money=Money.CONFIRMED, answer=Answer.REFUSED)
        for record in (one, two):
            await store.claim(record)
        for found in await store.page():
            await store.update(found, msgspec.structs.replace(found, version=1, money=Money.CONFIRMED))
        await close_in_store(store, one.id, lambda r: refund_unverified(r, OTHER_TX, "ann", "", 5.0))
        await close_in_store(store, two.id, lambda r: write_off("because", "ann", 5.0))
        assert await store.page(orphans=True) == []
        assert await store.holders("hand/") == {}
        with pytest.raises(IllegalMove):
            await close_in_store(store, two.id, lambda r: write_off("because", "ann", 5.0))
        with pytest.raises(CannotClose, match="no settlement"):
            await close_in_store(store, "pay_3", lambda r: write_off("because", "ann", 5.0))
        await store.lease(f"hand/{one.key}", "somebody", 5)
        with pytest.raises(CannotClose, match="handed out"):
            await close_in_store(store, one.id, lambda r: write_off("because", "ann", 5.0))

    asyncio.run(script())


def test_a_closed_orphan_that_the_chain_denies_is_no_orphan_again() -> None:
    record = settlement(money=Money.CONFIRMED, answer=Answer.REFUSED, watched=True)
    closed = write_off("because", "ann", 5.0)(record)
    assert not after_money(closed, MoneyEvent.CHAIN_UNPAID, now=6.0).orphan
