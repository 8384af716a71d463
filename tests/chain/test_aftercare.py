"""A payment told in its first block is looked at once more when the block is final."""

import asyncio
from typing import Any

from guardian.chain.target import Paid, Reorged, Unused
from tests.chain.scripted_node import Node, Scene, transfer, tx, used


async def told(*nodes: Node, **settings: Any) -> Scene:
    """A scene in which the payment was told in block 100."""
    scene = Scene(*nodes, **settings)
    scene.watch(valid_before=None)
    for node in scene.nodes:
        node.include(1, used(), transfer())
    assert await scene.look() == [Paid(tx(1), 100, 1)]
    return scene


def receipts_asked(node: Node) -> int:
    return sum(message.count("eth_getTransactionReceipt") for message in node.messages)


def test_a_payment_that_stands_is_asked_for_once_and_said_nothing_of() -> None:
    async def script() -> None:
        scene = await told()
        before = receipts_asked(scene.node)
        assert await scene.look(30, mine=1) == []
        assert receipts_asked(scene.node) == before + 1

    asyncio.run(script())


def test_a_payment_that_a_reorganisation_undid_is_told_and_watched_anew() -> None:
    async def script() -> None:
        scene = await told()
        scene.node.reorganise()
        found = await scene.look(13, mine=1)
        assert found[0] == Reorged(tx(1))
        assert isinstance(found[1], Unused)
        scene.node.include(2, used(), transfer())
        assert Paid(tx(2), 113, 2) in await scene.look(mine=1)

    asyncio.run(script())


def test_a_payment_that_moved_to_a_later_block_is_not_undone() -> None:
    async def script() -> None:
        scene = await told()
        scene.node.reorganise()
        scene.node.include(1, used(), transfer(), block=105)
        assert await scene.look(40, mine=1) == []

    asyncio.run(script())


def test_a_payment_that_moved_to_another_transaction_is_told_again() -> None:
    async def script() -> None:
        scene = await told()
        scene.node.reorganise()
        scene.node.include(2, used(), transfer(), block=101)
        found = await scene.look(60, mine=1)
        assert [type(finding) for finding in found] == [Paid]
        assert found[0].transaction == tx(2)

    asyncio.run(script())


def test_one_endpoint_alone_undoes_no_payment_where_two_are_configured() -> None:
    async def script() -> None:
        scene = await told(Node(), Node())
        scene.nodes[0].reorganise()
        found = await scene.look(40, mine=1)
        assert Reorged(tx(1)) not in found

    asyncio.run(script())


def test_a_payment_found_below_finality_needs_no_second_look() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.include(1, used(), transfer(), block=80)
        scene.watch(valid_before=None)
        assert await scene.look() == [Paid(tx(1), 80, 21)]
        before = receipts_asked(scene.node)
        await scene.look(20, mine=1)
        assert receipts_asked(scene.node) == before

    asyncio.run(script())


def test_what_is_forgotten_is_not_told_as_undone() -> None:
    async def script() -> None:
        scene = await told()
        scene.watcher.forget("k")
        scene.node.reorganise()
        assert await scene.look(20, mine=1) == []

    asyncio.run(script())
