"""What the watcher may say, and when: scripts of a chain, looked at by hand."""

import asyncio

import pytest

from guardian.chain.target import Cancelled, Expired, Mismatch, Paid, Reverted, Seen, Unused
from guardian.errors import ChainUnavailable
from tests.chain.scripted_node import (
    GENESIS_S,
    NONCE,
    PAYER,
    SHOP,
    Node,
    Scene,
    cancelled,
    target,
    transfer,
    tx,
    used,
)

STRANGER = "0x" + "77" * 20
OTHER_NONCE = "0x" + "99" * 32
EXPIRY_BLOCK = 150  # the block whose time is the target's valid_before


def test_use_and_transfer_in_one_transaction_is_paid() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        assert await scene.look() == [Unused(100, False)]
        scene.node.mine()
        hash = scene.node.include(1, used(), transfer())
        assert await scene.look() == [Paid(hash, 101, 1)]
        assert await scene.look(mine=1) == []

    asyncio.run(script())


@pytest.mark.parametrize(
    "events",
    [
        [used()],
        [used(), transfer(amount=999)],
        [used(), transfer(pay_to=STRANGER)],
        [used(), transfer(payer=STRANGER)],
        [used(), transfer(asset=STRANGER)],
    ],
    ids=["no transfer", "less", "another payee", "another payer", "another token"],
)
def test_a_used_nonce_without_this_transfer_is_a_mismatch_and_only_at_finality(events: list[dict]) -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        hash = scene.node.include(1, *events)
        assert await scene.look() == []
        assert await scene.look(11, mine=1) == []
        (finding,) = await scene.look(mine=1)
        assert isinstance(finding, Mismatch)
        assert finding.transaction == hash

    asyncio.run(script())


def test_a_transfer_without_use_of_the_nonce_says_nothing() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(hint=tx(1))
        scene.node.include(1, transfer())
        assert await scene.look() == [Unused(100, False)]

    asyncio.run(script())


def test_one_transfer_never_proves_two_payments_of_one_transaction() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(key="mine")
        scene.watch(key="other", nonce=OTHER_NONCE)
        hash = scene.node.include(1, used(), transfer(), used(OTHER_NONCE), transfer(pay_to=STRANGER))
        assert await scene.look() == [Paid(hash, 100, 1)]
        assert [type(finding) for finding in await scene.look(12, mine=1)] == [Mismatch]

    asyncio.run(script())


def test_a_reported_hash_is_not_needed_and_not_trusted() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(hint=tx(1))
        scene.node.include(1, used(OTHER_NONCE), transfer())
        hash = scene.node.include(2, used(), transfer())
        assert await scene.look() == [Paid(hash, 100, 1)]

    asyncio.run(script())


def test_a_young_block_is_seen_and_paid_once_it_is_deep_enough() -> None:
    async def script() -> None:
        scene = Scene(confirmations=3)
        scene.watch()
        hash = scene.node.include(1, used(), transfer())
        assert await scene.look() == [Seen(hash)]
        assert await scene.look(mine=1) == []
        assert await scene.look(mine=1) == [Paid(hash, 100, 3)]

    asyncio.run(script())


def test_a_payment_that_a_reorganisation_undid_is_not_paid() -> None:
    async def script() -> None:
        scene = Scene(confirmations=3)
        scene.watch()
        scene.node.include(1, used(), transfer())
        await scene.look()
        scene.node.reorganise()
        assert await scene.look(mine=2) == [Unused(102, False)]
        hash = scene.node.include(1, used(), transfer())
        assert await scene.look(2, mine=1) == [Paid(hash, 102, 3)]

    asyncio.run(script())


def test_a_payment_moved_to_a_block_that_was_read_already_is_still_found() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        await scene.look()
        await scene.look(mine=3)
        scene.node.fork += 1
        hash = scene.node.include(1, used(), transfer(), block=101)
        assert await scene.look() == [Paid(hash, 101, 3)]

    asyncio.run(script())


def test_unused_is_told_once_for_each_head() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        await scene.look()
        assert await scene.look() == []
        assert await scene.look(2, mine=1) == [Unused(101, False), Unused(102, False)]

    asyncio.run(script())


def test_a_hint_in_the_mempool_is_seen_and_the_nonce_unused_meanwhile() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.node.pool[tx(1)] = "0x"
        await scene.look()
        scene.watcher.hint("k", tx(1))
        assert await scene.look(mine=1) == [Seen(tx(1)), Unused(101, True)]

    asyncio.run(script())


@pytest.mark.parametrize("prefix", ["0xe3ee160e", "0xcf092995", "0xef55bec6", "0x88b7ab63"])
def test_the_pending_block_names_a_hash_where_nobody_did(prefix: str) -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.node.pool[tx(7)] = prefix + "0" * 64 * 5 + NONCE[2:] + "0" * 64
        assert await scene.look() == [Seen(tx(7)), Unused(100, True)]

    asyncio.run(script())


def test_the_nonce_is_found_in_a_bundles_calldata_too() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.node.pool[tx(7)] = "0x82ad56cb" + "1" * 17 + NONCE[2:].upper()
        assert Seen(tx(7)) in await scene.look()

    asyncio.run(script())


def test_the_pending_block_is_not_read_where_a_hash_is_known() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(hint=tx(1))
        await scene.look()
        assert not [m for m in scene.node.messages if m == ["eth_getBlockByNumber"]][1:]

    asyncio.run(script())


def test_a_reverted_hash_is_told_once_and_proves_nothing() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(hint=tx(1))
        scene.node.include(1, status=0)
        assert await scene.look() == [Reverted(tx(1)), Unused(100, False)]
        assert await scene.look(mine=1) == [Unused(101, False)]
        hash = scene.node.include(2, used(), transfer())
        assert await scene.look(mine=1) == [Paid(hash, 101, 2)]

    asyncio.run(script())


def test_expiry_is_proven_by_the_final_blocks_time_and_state() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 11
        assert await scene.look() == [Unused(EXPIRY_BLOCK + 11, False)]
        assert Expired(EXPIRY_BLOCK) in await scene.look(mine=1)
        assert await scene.look(mine=1) == []

    asyncio.run(script())


def test_an_authorization_used_just_before_its_expiry_never_expires() -> None:
    async def script() -> None:
        scene = Scene(confirmations=30)
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 20
        hash = scene.node.include(1, used(), transfer(), block=EXPIRY_BLOCK - 1)
        assert await scene.look() == [Seen(hash)]
        assert [type(finding) for finding in await scene.look(10, mine=1)] == [Paid]

    asyncio.run(script())


@pytest.mark.parametrize("finality", ["safe", "finalized"])
def test_a_node_without_finality_tags_is_read_64_blocks_back(finality: str) -> None:
    async def script() -> None:
        scene = Scene(finality_blocks=finality)
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 63
        assert Expired not in map(type, await scene.look())
        assert Expired(EXPIRY_BLOCK) in await scene.look(mine=1)

    asyncio.run(script())


def test_a_node_without_old_states_proves_expiry_by_its_head() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.states_kept = 5
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 12
        assert Expired(EXPIRY_BLOCK) in await scene.look()

    asyncio.run(script())


def test_without_valid_before_nothing_expires() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(valid_before=None)
        scene.node.head = EXPIRY_BLOCK + 100
        assert await scene.look() == [Unused(EXPIRY_BLOCK + 100, False)]

    asyncio.run(script())


def test_a_cancellation_is_proof_once_it_is_final() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        hash = scene.node.include(1, cancelled())
        assert await scene.look(12, mine=1) == [Cancelled(hash)]
        assert scene.node.head == 112

    asyncio.run(script())


def test_two_endpoints_must_agree_on_a_negative_proof() -> None:
    async def script() -> None:
        honest, other = Node(), Node()
        scene = Scene(honest, other)
        scene.watch()
        honest.head = other.head = EXPIRY_BLOCK + 20
        other.include(1, used(), transfer(), block=EXPIRY_BLOCK - 1)
        assert Expired not in map(type, await scene.look(3, mine=1))
        other.receipts.clear()
        assert Expired in map(type, await scene.look(mine=1))

    asyncio.run(script())


def test_one_endpoint_of_two_alone_proves_no_expiry() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        for node in scene.nodes:
            node.head = EXPIRY_BLOCK + 20
        scene.nodes[1].down = True
        assert Expired not in map(type, await scene.look(3, mine=1))
        scene.nodes[1].down = False
        assert Expired in map(type, await scene.look(5, mine=1))

    asyncio.run(script())


def test_an_endpoint_that_dies_in_mid_look_gives_no_finding_and_the_next_one_is_read() -> None:
    async def script() -> None:
        scene = Scene(Node(), Node())
        scene.watch()
        await scene.look()
        for node in scene.nodes:
            node.mine()
            node.include(1, used(), transfer())
        scene.nodes[0].fails_on = {"eth_call"}
        with pytest.raises(ChainUnavailable):
            await scene.look()
        assert Paid(tx(1), 101, 1) in await scene.look(4)

    asyncio.run(script())


def test_no_state_and_no_log_is_no_finding() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.refuses = {"eth_call"}
        scene.watch()
        scene.node.head = EXPIRY_BLOCK + 50
        assert await scene.look(3, mine=1) == []

    asyncio.run(script())


def test_a_payment_made_while_nobody_watched_is_found_in_chunks_that_the_node_takes() -> None:
    async def script() -> None:
        scene = Scene(Node(head=3000))
        scene.node.range_limit = 100
        hash = scene.node.include(1, used(), transfer(), block=2600)
        scene.now = GENESIS_S + 6000.0
        scene.watch(from_block_time=GENESIS_S + 5100.0, valid_before=GENESIS_S + 5400)
        assert await scene.look(4) == [Paid(hash, 2600, 401)]
        assert min(first for first, _ in scene.node.ranges) > 2400

    asyncio.run(script())


def test_blocks_missed_in_an_outage_are_read_afterwards() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(valid_before=None)
        await scene.look()
        scene.node.mine(5)
        hash = scene.node.include(1, used(), transfer())
        scene.node.mine(900)
        assert await scene.look(2) == [Paid(hash, 105, 901)]

    asyncio.run(script())


def test_a_use_older_than_the_guardians_first_sight_is_searched_for() -> None:
    async def script() -> None:
        scene = Scene(Node(head=5000))
        hash = scene.node.include(1, used(), transfer(), block=10)
        scene.now = GENESIS_S + 10_000.0
        scene.watch(from_block_time=scene.now)
        assert Paid(hash, 10, 4997) in [
            Paid(f.transaction, f.block, 4997) for f in await scene.look(8, mine=1) if isinstance(f, Paid)
        ]

    asyncio.run(script())


def test_the_number_of_messages_per_head_does_not_grow_with_the_targets() -> None:
    async def messages(count: int) -> int:
        scene = Scene()
        for number in range(count):
            scene.watch(key=str(number), nonce="0x" + hex(number)[2:].rjust(64, "1"))
        await scene.look(3, mine=1)
        before = len(scene.node.messages)
        await scene.look(mine=1)
        return len(scene.node.messages) - before

    async def script() -> None:
        assert await messages(1) == await messages(90) == await messages(500) <= 4

    asyncio.run(script())


def test_every_target_gets_its_look_even_where_one_batch_cannot_hold_them() -> None:
    async def script() -> None:
        scene = Scene()
        for number in range(250):
            scene.watch(key=str(number), nonce="0x" + hex(number)[2:].rjust(64, "1"))
        assert len(await scene.look(3)) == 250

    asyncio.run(script())


def test_a_node_that_takes_small_batches_only_is_asked_in_small_ones() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.batch_limit = 3
        for number in range(20):
            scene.watch(key=str(number), nonce="0x" + hex(number)[2:].rjust(64, "1"))
        assert len(await scene.look()) == 20

    asyncio.run(script())


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0], ids=["back", "ahead"])
def test_a_clock_that_is_set_delays_no_look(by_s: float) -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        await scene.look()
        scene.set_by_s = by_s
        hash = scene.node.include(1, used(), transfer())
        assert await scene.look(mine=1) == [Paid(hash, 100, 2)]

    asyncio.run(script())


def test_after_forget_nothing_is_told() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch()
        scene.watcher.forget("k")
        assert await scene.look(mine=1) == []

    asyncio.run(script())


def test_a_listener_that_fails_costs_no_other_target_its_news() -> None:
    async def script() -> None:
        scene = Scene()

        def broken(finding: object) -> None:
            raise RuntimeError("listener")

        scene.watcher.watch(target(key="broken", nonce=OTHER_NONCE), broken)
        scene.watch()
        assert await scene.look() == [Unused(100, False)]
        assert "listener" in scene.errors[0]

    asyncio.run(script())


@pytest.mark.parametrize("field", ["asset", "payer", "pay_to", "nonce"])
def test_a_malformed_target_is_refused_before_it_can_spoil_the_others(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Scene().watch(**{field: "0x12"})


def test_addresses_are_compared_without_regard_to_case() -> None:
    async def script() -> None:
        scene = Scene()
        scene.watch(payer=PAYER.upper().replace("X", "x"), pay_to=SHOP.upper().replace("X", "x"))
        hash = scene.node.include(1, used(), transfer())
        assert await scene.look() == [Paid(hash, 100, 1)]

    asyncio.run(script())


def test_the_loop_goes_on_after_errors_until_there_is_proof() -> None:
    async def script() -> None:
        scene = Scene()
        scene.node.down = True
        told, failed = asyncio.Event(), asyncio.Event()
        scene.watcher._on_error = lambda text: failed.set()
        await scene.watcher.start()
        scene.watcher.watch(target(), lambda finding: told.set())
        await failed.wait()
        assert not scene.watcher.healthy
        scene.node.down, scene.now = False, scene.now + 60
        async with asyncio.timeout(5):
            await told.wait()
        assert scene.watcher.healthy
        assert scene.watcher.head == 100
        await scene.watcher.stop()

    asyncio.run(script())


def test_with_nothing_to_watch_only_the_head_is_asked_for() -> None:
    async def script() -> None:
        scene = Scene()
        await scene.look(mine=1)
        assert scene.node.messages == [["eth_chainId"], ["eth_getBlockByNumber"]]

    asyncio.run(script())
