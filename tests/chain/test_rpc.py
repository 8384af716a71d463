"""Which endpoints are believed, which are read, and what they are spent on."""

import asyncio
from typing import Any

import pytest

from guardian.chain.endpoint import CHAIN_CHECK_S, FROZEN_S
from guardian.chain.target import Expired, Paid, Unused
from guardian.errors import ChainUnavailable
from tests.chain.scripted_node import BLOCK_S, Node, Scene, target, transfer, tx, used

EXPIRY_BLOCK = 150


def methods(node: Node) -> list[str]:
    return [method for message in node.messages for method in message]


# --- the right chain


def test_an_endpoint_of_another_chain_is_never_read_and_loudly_named() -> None:
    async def script() -> None:
        wrong, right = Node(chain_id=1, head=500), Node()
        scene = Scene(wrong, right)
        scene.watch()
        assert await scene.look() == [Unused(100, False)]
        assert "serves another chain (eip155:1)" in scene.errors[0]
        assert wrong.messages == [["eth_chainId"]]

    asyncio.run(script())


def test_a_node_that_cannot_be_used_says_why_once_and_whatever_comes_next() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.refuses = {"eth_chainId"}
        await scene.endpoints.refresh()
        assert scene.endpoints.standings()[0].state == "does not answer (not today)"
        scene.node.down = True
        scene.now += 60
        await scene.endpoints.refresh()
        assert scene.endpoints.standings()[0].state == "does not answer (scripted)"
        assert len(scene.errors) == 1
        assert "does not answer (not today)" in scene.errors[0]

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


@pytest.mark.parametrize(
    ("head", "after_s"),
    [(100, CHAIN_CHECK_S), (50, 1), (5000, 1)],
    ids=["within a minute", "at once where the head falls", "at once where it leaps"],
)
def test_a_node_swapped_behind_its_url_is_noticed(head: int, after_s: float) -> None:
    async def script() -> None:
        scene = Scene()
        await scene.look()
        scene.node.chain_id, scene.node.head = 1, head
        scene.now += after_s
        await scene.look()
        assert not scene.watcher.healthy
        assert "another chain" in scene.watcher.fault

    asyncio.run(script())


def test_a_node_swapped_a_moment_ago_has_no_vote_on_a_negative_proof() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        for node in scene.nodes:
            node.head = EXPIRY_BLOCK + 11
        await scene.look()
        scene.nodes[1].chain_id = 1
        assert Expired not in map(type, await scene.look(3, mine=1))

    asyncio.run(script())


# --- behind, frozen


def test_a_node_that_fell_behind_is_not_read() -> None:
    async def script() -> None:
        behind, current = Node(head=96), Node(head=100)
        scene = Scene(behind, current)
        scene.watch()
        current.include(1, used(), transfer())
        assert Paid(tx(1), 100, 1) in await scene.look(4)
        assert "eth_getLogs" not in methods(behind)
        assert scene.endpoints.standings()[0].state == "is 4 blocks behind"

    asyncio.run(script())


def test_a_node_three_blocks_behind_is_still_good() -> None:
    async def script() -> None:
        scene = Scene(Node(head=97), Node(head=100))
        await scene.look()
        assert [endpoint.label for endpoint in scene.endpoints.usable] == ["node0", "node1"]

    asyncio.run(script())


def test_a_frozen_node_among_others_is_left_for_them() -> None:
    async def script() -> None:
        frozen, moving = Node(), Node()
        scene = Scene(frozen, moving)
        await scene.look()
        moving.mine(4)
        await scene.look()
        assert scene.endpoints.best().label == "node1"

    asyncio.run(script())


def test_where_the_only_head_stands_still_nothing_negative_is_proven_and_health_is_false() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 11
        await scene.look()
        scene.now += FROZEN_S + 1
        await scene.look()
        assert not scene.watcher.healthy
        assert "no new block" in scene.watcher.fault
        with pytest.raises(ChainUnavailable, match="no new block"):
            await scene.watcher.check()
        scene.watch(key="late", nonce="0x" + "44" * 32)
        assert await scene.look() == []

    asyncio.run(script())


def test_where_the_only_head_stands_still_a_payment_is_still_found() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.include(1, used(), transfer())
        await scene.look()
        scene.now += FROZEN_S + 1
        scene.watch()
        assert await scene.look() == [Paid(tx(1), 100, 1)]

    asyncio.run(script())


def test_a_chain_that_goes_on_is_healthy_again() -> None:
    async def script() -> None:
        scene = Scene()
        await scene.look()
        scene.now += FROZEN_S + 1
        await scene.look()
        await scene.look(mine=1)
        assert scene.watcher.healthy
        assert [error.split(" ", 1)[1] for error in scene.errors] == [
            f"shows no new block for {FROZEN_S + 2:.0f} s, of eip155:8453",
            "is usable again, of eip155:8453",
        ]

    asyncio.run(script())


def test_blocks_whose_time_stands_still_are_no_progress() -> None:
    async def script() -> None:
        scene = Scene()
        stuck = scene.node.eth_getBlockByNumber("latest", False)

        def same_time(which: str, full: bool) -> dict[str, Any]:
            return {**(stuck or {}), "number": hex(scene.node.head)}

        scene.node.eth_getBlockByNumber = same_time  # type: ignore[method-assign]
        await scene.look(20, mine=1)
        assert not scene.watcher.healthy

    asyncio.run(script())


# --- down


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


def test_a_missing_second_voice_is_said_once_and_shown_while_it_lasts() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        for node in scene.nodes:
            node.head = EXPIRY_BLOCK + 20
        scene.nodes[1].down = True
        await scene.look(6, mine=1)
        assert scene.watcher.healthy
        assert "cannot be proven" in scene.watcher.fault
        assert len([error for error in scene.errors if "waits for its proof" in error]) == 1
        scene.nodes[1].down = False
        await scene.look(6, mine=1)
        assert scene.watcher.fault == ""
        assert "non-payment on eip155:8453 can be proven again" in scene.errors

    asyncio.run(script())


# --- rate limits and budgets


def test_a_limited_endpoint_is_left_alone_until_its_time_and_another_is_read() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        await scene.look()
        scene.node.limited = 20.0
        await scene.look(mine=1)
        asked = len(scene.node.messages)
        found = await scene.look(4, mine=1)
        assert [type(finding) for finding in found] == [Unused] * 4
        assert len(scene.node.messages) == asked
        assert scene.endpoints.standings()[0].state.startswith("has a rate limit")

    asyncio.run(script())


def test_a_limited_endpoint_is_neither_down_nor_second_choice_afterwards() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        await scene.look()
        scene.node.limited = 3.0
        await scene.look(mine=1)
        scene.node.limited = None
        assert scene.endpoints.best().label == "node1"
        await scene.look(2, mine=1)
        assert scene.endpoints.best().label == "node0"
        assert methods(scene.node).count("eth_chainId") == 1

    asyncio.run(script())


def test_a_short_rest_of_the_only_endpoint_is_no_reason_to_be_unhealthy() -> None:
    async def script() -> None:
        scene = Scene()
        await scene.look()
        scene.node.limited = 5.0
        await scene.look(mine=1)
        assert scene.watcher.healthy
        scene.now += 6
        scene.node.limited = 600.0
        await scene.look(mine=1)
        assert not scene.watcher.healthy
        assert "rate limit" in scene.watcher.fault

    asyncio.run(script())


def test_a_limited_endpoint_has_no_vote_and_gets_it_back() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        for node in scene.nodes:
            node.head = EXPIRY_BLOCK + 10
        await scene.look()
        scene.nodes[1].limited = 4.0
        assert Expired not in map(type, await scene.look(2, mine=1))
        scene.nodes[1].limited = None
        assert Expired in map(type, await scene.look(3, mine=1))

    asyncio.run(script())


def test_a_limit_inside_a_batch_is_a_limit_and_batches_become_smaller() -> None:
    async def script() -> None:
        scene = Scene()
        for number in range(40):
            scene.watch(key=str(number), nonce=f"0x{number + 0x1000:064x}")
        real = scene.node._reply

        def partly(call: Any) -> dict[str, Any]:
            crowded = len(scene.node.messages[-1]) > 10 and call.method == "eth_call"
            refused = {"error": {"code": -32007, "message": "50/second request limit reached"}}
            return refused if crowded else real(call)

        scene.node._reply = partly  # type: ignore[method-assign]
        found = []
        for _ in range(12):
            scene.now += 30
            try:
                found += await scene.look(mine=1)
            except ChainUnavailable:
                assert scene.endpoints.rest_s() > 0
        assert len([finding for finding in found if isinstance(finding, Unused)]) >= 40

    asyncio.run(script())


def test_what_is_spent_stays_within_the_budget_and_the_young_come_first() -> None:
    async def script() -> None:
        scene = Scene(calls_per_s=5)
        for number in range(60):
            scene.watch(key=f"old{number}", nonce=f"0x{number + 0x1000:064x}", valid_before=None)
        await scene.look(20, mine=1)
        spent = scene.endpoints.all[0].spent
        young: list[object] = []
        scene.now += 4000
        await scene.look(2, mine=1)
        scene.endpoints.all[0].budget.spend(50, scene.now)
        young_one = target(key="young", nonce="0x" + "77" * 32, valid_before=None, from_block_time=scene.now)
        scene.watcher.watch(young_one, young.append)
        await scene.look(mine=1)
        assert young
        assert spent < 20 * (5 * BLOCK_S) + 5 * 10 + 20 * 6

    asyncio.run(script())


def test_where_the_budget_allows_one_look_it_is_for_the_caller_who_waits() -> None:
    async def script() -> None:
        scene = Scene(calls_per_s=5)
        await scene.look()
        scene.endpoints.all[0].budget.spend(50, scene.now)
        told: list[str] = []
        for key, urgent in (("first", False), ("waiting", True), ("last", False)):
            one = target(key=key, nonce="0x" + key[0].encode().hex() * 32, urgent=urgent)
            scene.watcher.watch(one, lambda finding, key=key: told.append(key))  # type: ignore[misc]
        await scene.look()
        assert told == ["waiting"]

    asyncio.run(script())


def test_every_call_of_a_batch_is_counted() -> None:
    async def script() -> None:
        spent: list[tuple[str, int]] = []
        scene = Scene()
        scene.endpoints.all[0]._on_spent = lambda label, calls: spent.append((label, calls))
        scene.watch(hint=tx(1))
        await scene.look()
        assert (
            sum(calls for _, calls in spent)
            == scene.endpoints.standings()[0].spent
            == len(methods(scene.node))
        )
        assert ("node0", 3) in spent

    asyncio.run(script())


def test_a_proof_is_told_in_debt_too() -> None:
    async def script() -> None:
        scene = Scene(calls_per_s=1)
        scene.watch()
        scene.endpoints.all[0].budget.spend(1000, scene.now)
        scene.node.include(1, used(), transfer())
        assert await scene.look() == [Paid(tx(1), 100, 1)]
        assert scene.endpoints.debt_s() > 900

    asyncio.run(script())


def test_of_two_endpoints_the_one_with_budget_left_is_read() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node(), calls_per_s=10)
        await scene.look()
        scene.endpoints.all[0].budget.spend(500, scene.now)
        assert scene.endpoints.best().label == "node1"
        assert scene.endpoints.debt_s() == 0

    asyncio.run(script())


def test_a_node_that_answers_what_was_not_asked_for_adds_nothing() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        strange = [
            used(asset="0x" + "66" * 20) | {"transactionHash": tx(9)},
            transfer() | {"transactionHash": tx(8)},
        ]
        scene.node.eth_getLogs = lambda query: strange  # type: ignore[method-assign]
        await scene.look(2, mine=1)
        assert tx(9) not in scene.watcher._watches["k"].known
        assert "eth_getTransactionReceipt" not in methods(scene.node)

    asyncio.run(script())


def test_a_node_that_invents_logs_costs_a_bounded_number_of_calls() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        forged = [used() | {"transactionHash": tx(0x1000 + number)} for number in range(500)]
        scene.node.eth_getLogs = lambda query: forged  # type: ignore[method-assign]
        await scene.look()
        scene.node.messages.clear()
        await scene.look(mine=1)
        assert len(methods(scene.node)) < 20

    asyncio.run(script())
