"""A payment that one endpoint shows is told when another one bears it out, or cannot know."""

import asyncio
from typing import Any

import pytest

from guardian.chain import witness
from guardian.chain.target import Paid, Seen, Unused
from tests.chain.scripted_node import Node, Scene, cancelled, transfer, tx, used

STRANGER = "0x" + "77" * 20
PAYMENT = [used(), transfer()]


def paid(found: list[Any]) -> list[Any]:
    return [finding for finding in found if isinstance(finding, Paid)]


def scene_of(*nodes: Node) -> Scene:
    scene = Scene(*nodes)
    scene.watch(valid_before=None)
    return scene


def test_a_payment_that_two_endpoints_show_is_told_at_once() -> None:
    async def script() -> None:
        scene = scene_of(Node(), Node())
        for node in scene.nodes:
            node.include(1, *PAYMENT)
        assert await scene.look() == [Paid(tx(1), 100, 1)]
        assert scene.errors == []

    asyncio.run(script())


def test_a_payment_that_one_endpoint_invents_is_never_told() -> None:
    async def script() -> None:
        liar, honest = Node(), Node()
        scene = scene_of(liar, honest)
        liar.include(1, *PAYMENT)
        found = await scene.look() + await scene.look(30, mine=1)
        assert not paid(found)
        assert found[0] == Seen(tx(1))
        assert len([error for error in scene.errors if "contradict" in error]) == 1

    asyncio.run(script())


@pytest.mark.parametrize(
    "events", [[used(), transfer(pay_to=STRANGER)], [used(), transfer(amount=1)], [cancelled()]]
)
def test_another_outcome_of_the_same_transaction_is_a_denial(events: list[Any]) -> None:
    async def script() -> None:
        liar, honest = Node(), Node()
        scene = scene_of(liar, honest)
        liar.include(1, *PAYMENT)
        honest.include(1, *events)
        assert not paid(await scene.look(20))

    asyncio.run(script())


def test_a_third_endpoint_ends_a_contradiction() -> None:
    async def script() -> None:
        good, poor, third = Node(), Node(), Node()
        scene = scene_of(good, poor, third)
        third.down = True
        good.include(1, *PAYMENT)
        assert not paid(await scene.look(5))
        third.down = False
        third.include(1, *PAYMENT)
        assert paid(await scene.look(8)) == [Paid(tx(1), 100, 1)]

    asyncio.run(script())


def test_an_endpoint_one_block_behind_is_waited_for() -> None:
    async def script() -> None:
        ahead, behind = Node(head=101), Node(head=100)
        scene = scene_of(ahead, behind)
        ahead.include(1, *PAYMENT)
        assert await scene.look() == [Seen(tx(1))]
        behind.mine()
        behind.include(1, *PAYMENT)
        assert await scene.look() == [Paid(tx(1), 101, 1)]

    asyncio.run(script())


def test_an_endpoint_that_stays_behind_holds_a_payment_for_one_block_at_most() -> None:
    async def script() -> None:
        scene = scene_of(Node(head=101), Node(head=100))
        scene.node.include(1, *PAYMENT)
        assert await scene.look() == [Seen(tx(1))]
        scene.now += 2
        assert await scene.look() == [Paid(tx(1), 101, 1)]
        assert "one endpoint" in scene.errors[-1]

    asyncio.run(script())


def test_a_payment_is_not_held_where_no_other_endpoint_is_up() -> None:
    async def script() -> None:
        scene = scene_of(Node(), Node())
        scene.nodes[1].down = True
        scene.node.include(1, *PAYMENT)
        assert paid(await scene.look()) == [Paid(tx(1), 100, 1)]

    asyncio.run(script())


def test_an_endpoint_without_receipts_that_knows_the_nonce_used_denies_nothing() -> None:
    async def script() -> None:
        good, poor = Node(), Node()
        scene = scene_of(good, poor)
        for node in scene.nodes:
            node.include(1, *PAYMENT)
        poor.refuses = {"eth_getTransactionReceipt"}
        assert paid(await scene.look(3)) == [Paid(tx(1), 100, 1)]

    asyncio.run(script())


def test_the_transaction_that_a_witness_names_is_told_and_not_the_one_invented() -> None:
    async def script() -> None:
        liar, honest = Node(), Node()
        scene = scene_of(liar, honest)
        liar.include(1, *PAYMENT)
        for node in scene.nodes:
            node.include(2, *PAYMENT)
        assert paid(await scene.look(8)) == [Paid(tx(2), 100, 1)]

    asyncio.run(script())


def test_a_hanging_witness_costs_no_more_than_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "ANSWER_S", 0.05)

    async def script() -> None:
        good, hanging = Node(), Node()
        scene = scene_of(good, hanging)
        await scene.look()
        for node in scene.nodes:
            node.mine()
        good.include(1, *PAYMENT)
        real = hanging.__class__.__call__

        async def hang(node: Node, calls: Any) -> Any:
            if calls[0].method == "eth_getTransactionReceipt":
                await asyncio.Event().wait()
            return await real(node, calls)

        scene.endpoints.all[1]._wire = type("Wire", (), {"__call__": lambda _, calls: hang(hanging, calls)})()  # type: ignore[assignment]
        async with asyncio.timeout(3):
            assert await scene.look() == [Seen(tx(1))]
            scene.now += 2
            assert paid(await scene.look()) == [Paid(tx(1), 101, 1)]

    asyncio.run(script())


def test_one_message_asks_a_witness_about_every_payment_of_a_look() -> None:
    async def messages(count: int) -> int:
        scene = Scene(Node(), Node())
        for number in range(count):
            nonce = f"0x{number + 0x1000:064x}"
            scene.watch(key=str(number), nonce=nonce)
            for node in scene.nodes:
                node.include(0x100 + number, used(nonce), transfer())
        found = await scene.look()
        assert len(paid(found)) == count
        return len(scene.nodes[1].messages)

    async def script() -> None:
        assert await messages(1) == await messages(40)

    asyncio.run(script())


def test_an_endpoint_that_hides_a_payment_cannot_hide_it_for_long() -> None:
    async def script() -> None:
        hiding, honest = Node(), Node()
        scene = scene_of(hiding, honest)
        for node in scene.nodes:
            node.include(1, *PAYMENT)
        hiding.receipts.clear()
        seen = await scene.look(20, mine=1)
        assert Seen(tx(1)) in seen
        assert any(isinstance(finding, Unused) for finding in seen)
        hiding.down = True
        assert paid(await scene.look(3, mine=1))

    asyncio.run(script())


def test_a_head_in_the_future_puts_no_honest_endpoint_behind() -> None:
    async def script() -> None:
        liar, honest = Node(head=100_000), Node(head=100)
        scene = scene_of(liar, honest)
        liar.include(1, *PAYMENT)
        assert await scene.look(10, mine=1) == [Unused(number, False) for number in range(101, 111)]
        assert "in the future" in scene.errors[0]

    asyncio.run(script())
