"""Which endpoints are believed."""

import asyncio

import pytest

from guardian.chain.target import Paid, Unused
from guardian.errors import ChainUnavailable
from tests.chain.scripted_node import Node, Scene, transfer, used


def test_an_endpoint_of_another_chain_is_never_read_and_loudly_named() -> None:
    async def script() -> None:
        wrong, right = Node(chain_id=1, head=500), Node()
        scene = Scene(wrong, right)
        scene.watch()
        assert await scene.look() == [Unused(100, False)]
        assert "another chain" in scene.errors[0]
        assert wrong.messages == [["eth_chainId"]]

    asyncio.run(script())


def test_a_node_that_fell_behind_is_not_read() -> None:
    async def script() -> None:
        behind, current = Node(head=96), Node(head=100)
        scene = Scene(behind, current)
        scene.watch()
        current.include(1, used(), transfer())
        (finding,) = await scene.look()
        assert isinstance(finding, Paid)
        assert "eth_getLogs" not in {method for message in behind.messages for method in message}

    asyncio.run(script())


def test_a_chain_id_that_changed_while_the_node_was_away_is_noticed() -> None:
    async def script() -> None:
        scene = Scene()
        await scene.look()
        scene.node.down = True
        await scene.look()
        scene.node.down, scene.node.chain_id = False, 1
        scene.now += 60
        await scene.look()
        assert not scene.watcher.healthy

    asyncio.run(script())


def test_no_endpoint_means_chain_unavailable() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.down = True
        with pytest.raises(ChainUnavailable):
            await scene.watcher.check()
        scene.watch()
        with pytest.raises(ChainUnavailable):
            await scene.look()

    asyncio.run(script())


def test_a_hanging_endpoint_does_not_keep_the_others_answer_waiting() -> None:
    async def script() -> None:
        hanging, quick = Node(), Node()
        scene = Scene(hanging, quick)
        scene.watch()

        async def never(calls: object) -> list[dict[str, object]]:
            await asyncio.Event().wait()
            raise AssertionError

        scene.endpoints.all[0]._wire = type("Hanging", (), {"__call__": staticmethod(never)})()  # type: ignore[assignment]
        async with asyncio.timeout(2):
            assert await scene.look() == [Unused(100, False)]
        for task in list(scene.endpoints._probes.values()):
            task.cancel()

    asyncio.run(script())
