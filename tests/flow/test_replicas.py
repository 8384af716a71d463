"""Two replicas on one Redis: scripts of what reaches which of them, and what both must agree on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from guardian.app import Guardian, build
from guardian.chain.rpc import Endpoints
from guardian.chain.signature import ERC1271_MAGIC
from guardian.chain.target import Paid, Unused
from guardian.chain.wires import Call
from guardian.facilitator.circuit import CircuitKey
from guardian.flow import holding, replicas
from guardian.flow.orphans import Orphans
from guardian.policy.model import NetworkPolicy, Policy
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer, redis_command
from guardian.settlement.record import after_answer
from guardian.settlement.states import Answer, AnswerEvent, Money
from guardian.store.open import open_store
from tests.chain.test_signature import Wallets
from tests.flow.scene import (
    NETWORK,
    STRANGER,
    TX,
    Caller,
    ScriptedWatcher,
    refused,
    settled,
    signed_payment,
)
from tests.store.conftest import settlement

LOST = refused("unexpected_settle_error", message="context deadline exceeded")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Replica:
    """One guardian of the pair, its watcher, and what its facilitator was asked."""

    def __init__(self, url: str, pair: "Pair", hold_s: float) -> None:
        self.chain = ScriptedWatcher()
        policy = Policy.model_validate(
            {
                "version": 1,
                "facilitators": [{"name": "main", "url": "http://facilitator"}],
                "networks": {NETWORK: NetworkPolicy(post_sign_delay_s=0, block_time_s=1)},
                "settle": {"hold_s": hold_s, "hold_without_hash_s": hold_s},
                "circuit": {"failure_threshold": 2},
                "retry": {"attempts": 1},
            }
        )
        self.guardian: Guardian = build(policy, open_store(url), transport=httpx.MockTransport(pair.answer))
        self.guardian.parts.watchers[NETWORK] = self.chain  # type: ignore[assignment]

    @property
    def leads(self) -> bool:
        return self.guardian.settle.replicas.leads(NETWORK)

    async def settle(self, body: bytes) -> Caller:
        caller = Caller(body, self.guardian.parts.generation)
        await self.guardian.settle.settle(caller)
        return caller

    async def crash(self) -> None:
        """Gone, without a word to anybody and without another write."""
        await self.guardian.parts.store.close()
        for task in self.guardian.settle.replicas._tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            await self.guardian.parts.tasks.finish(0)


class Pair:
    """Two replicas before one facilitator and one chain."""

    def __init__(self, url: str, *replies: Any, hold_s: float = 10) -> None:
        self.replies = list(replies)
        self.sent: list[bytes] = []
        self.first, self.second = Replica(url, self, hold_s), Replica(url, self, hold_s)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/settle":
            return httpx.Response(404)
        self.sent.append(request.content)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, asyncio.Event):
            await reply.wait()
            reply = settled()
        return httpx.Response(reply.status_code, content=reply.content)

    @property
    def leader(self) -> Replica:
        return self.first if self.first.leads else self.second

    @property
    def other(self) -> Replica:
        return self.second if self.first.leads else self.first

    async def until(self, holds: Callable[[], Any]) -> None:
        while not holds():
            await asyncio.sleep(0.005)

    async def until_record(self, holds: Callable[[Any], Any]) -> None:
        while True:
            page = await self.second.guardian.parts.store.page()
            if page and holds(page[0]):
                return
            await asyncio.sleep(0.01)

    def play(self, script: Callable[["Pair"], Awaitable[None]]) -> None:
        async def run() -> None:
            await self.first.guardian.start()
            await self.second.guardian.start()
            try:
                async with asyncio.timeout(25):
                    await script(self)
            finally:
                for replica in (self.first, self.second):
                    await replica.guardian.parts.tasks.finish(0)
                    with contextlib.suppress(Exception):
                        await replica.guardian.stop()

        asyncio.run(run())


@pytest.fixture
def url(server: RedisServer, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("[", "-").replace("]", "")[:40]
    return f"{server.url}?prefix={name}"


def test_one_settle_is_in_flight_over_all_replicas_and_one_caller_gets_the_success(url: str) -> None:
    waiting = asyncio.Event()

    async def script(pair: Pair) -> None:
        body = signed_payment()
        calls = [asyncio.create_task(one.settle(body)) for one in (pair.first, pair.second) for _ in range(3)]
        await pair.until(lambda: pair.sent)
        waiting.set()
        heard = [(await call).heard for call in calls]
        assert len(pair.sent) == 1
        assert sum(answer["success"] is True for answer in heard) == 1
        assert {answer["errorReason"] for answer in heard if not answer["success"]} == {
            "duplicate_settlement"
        }

    Pair(url, waiting).play(script)


def test_one_replica_watches_and_the_caller_at_the_other_hears_of_it(url: str) -> None:
    async def script(pair: Pair) -> None:
        assert pair.first.leads is not pair.second.leads
        call = asyncio.create_task(pair.other.settle(signed_payment()))
        await pair.until(lambda: pair.leader.chain.targets)
        assert not pair.other.chain.targets
        pair.leader.chain.say(Paid(TX, 4, 1))
        answer = (await call).heard
        assert (answer["success"], answer["transaction"]) == (True, TX)

    Pair(url, LOST).play(script)


def test_a_store_that_reads_slowly_makes_no_caller_wait_longer_than_its_hold(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(pair: Pair) -> None:
        body = signed_payment()
        mine = asyncio.create_task(pair.first.settle(body))
        await pair.until_record(lambda record: record.money is Money.POLLING)
        store, caller = pair.second.guardian.parts.store, Caller(body, pair.second.guardian.parts.generation)
        get, reads, goes_on = store.get, asyncio.Event(), asyncio.Event()

        async def slowly(key: str) -> Any:
            reads.set()
            await goes_on.wait()
            return await get(key)

        elsewhere = asyncio.create_task(pair.second.guardian.settle.settle(caller))
        await pair.until(lambda: any(live.calls for live in pair.second.guardian.settle.lives))
        await store.get("")  # behind the claim
        monkeypatch.setattr(store, "get", slowly)
        await reads.wait()
        await pair.until(lambda: caller.heard)
        assert caller.heard["success"] is False
        goes_on.set()
        await asyncio.gather(mine, elsewhere)

    Pair(url, LOST, hold_s=1).play(script)


def test_the_records_of_a_dead_replica_are_taken_up_and_its_callers_answered_elsewhere(url: str) -> None:
    never = asyncio.Event()

    async def script(pair: Pair) -> None:
        body = signed_payment()
        lost = asyncio.create_task(pair.first.settle(body))
        await pair.until(lambda: pair.sent)
        await pair.first.crash()
        lost.cancel()
        again = asyncio.create_task(pair.second.settle(body))
        await pair.until_record(lambda record: record.money is Money.POLLING)
        await pair.until(lambda: pair.second.chain.targets)
        assert pair.second.leads
        pair.second.chain.say(Paid(TX, 4, 1))
        assert (await again).heard["success"] is True
        assert len(pair.sent) == 1
        (record,) = await pair.second.guardian.parts.store.page()
        assert (record.money, record.answer) == (Money.CONFIRMED_LATE, Answer.ACCEPTED)
        assert "taken_up" in [event.name for event in record.events]

    Pair(url, never).play(script)


def test_another_replica_watches_within_two_blocks_of_the_leaders_death(url: str) -> None:
    async def script(pair: Pair) -> None:
        call = asyncio.create_task(pair.second.settle(signed_payment()))
        await pair.until_record(lambda record: record.money is Money.POLLING)
        if pair.second.leads:  # the one without the caller is to lead
            await pair.second.guardian.settle.replicas._lose_all()
            await pair.second.guardian.parts.store.resign(
                f"watch/{NETWORK}", pair.second.guardian.parts.replica
            )
        await pair.until(lambda: pair.first.leads and pair.first.chain.targets)
        died = asyncio.get_running_loop().time()
        await pair.first.crash()
        await pair.until(lambda: pair.second.chain.targets)
        assert asyncio.get_running_loop().time() - died < 2 * 1.0  # block_time_s
        pair.second.chain.say(Paid(TX, 4, 1))
        assert (await call).heard["success"] is True

    Pair(url, LOST).play(script)


def test_the_watcher_keeps_its_lease_while_it_begins_with_much_that_is_open(url: str) -> None:
    async def script(pair: Pair) -> None:
        leader, other = pair.leader, pair.other
        of_the_other, store = other.guardian.settle.replicas, other.guardian.parts.store
        begun, going_on, asked = asyncio.Event(), asyncio.Event(), 0

        async def begin(networks: object) -> None:
            begun.set()
            await going_on.wait()

        async def lease(name: str, holder: str, ttl_s: float) -> Any:
            nonlocal asked
            asked += name.startswith("watch/")
            return await ask(name, holder, ttl_s)

        ask, of_the_other.lead = store.lease, begin
        await leader.guardian.settle.replicas.stop()
        await begun.wait()
        store.lease = lease  # type: ignore[method-assign]
        await pair.until(lambda: asked >= replicas.BEATS_PER_LEAD)
        assert await store.holders("watch/")
        going_on.set()

    Pair(url, settled()).play(script)


def test_a_caller_at_each_replica_and_an_unused_nonce_make_one_resend(url: str) -> None:
    async def script(pair: Pair) -> None:
        body = signed_payment()
        calls = [asyncio.create_task(one.settle(body)) for one in (pair.first, pair.second)]
        await pair.until(lambda: pair.leader.chain.targets)
        await pair.until_record(lambda record: record.money is Money.POLLING)
        for block in range(1, 5):
            pair.leader.chain.say(Unused(block, in_mempool=False))
        heard = [(await call).heard for call in calls]
        assert len(pair.sent) == 2
        assert sum(answer["success"] is True for answer in heard) <= 1

    lost = httpx.Response(500, text="Internal Server Error")
    pair = Pair(url, lost, settled())

    async def told(pair: Pair) -> None:
        async def chain_says() -> None:
            await pair.until(lambda: len(pair.sent) == 2)
            pair.leader.chain.say(Paid(TX, 9, 1))

        telling = asyncio.create_task(chain_says())
        await script(pair)
        await telling

    pair.play(told)


def test_an_orphan_that_is_closed_at_one_replica_buys_nothing_at_the_other(url: str) -> None:
    async def script(pair: Pair) -> None:
        caller, body = pair.leader, signed_payment()
        call = asyncio.create_task(pair.other.settle(body))
        await pair.until(lambda: caller.chain.targets)
        call.cancel()
        await asyncio.wait([call])
        caller.chain.say(Paid(TX, 4, 1))
        await pair.until_record(lambda record: record.money is Money.CONFIRMED_LATE)
        guardian = pair.first.guardian
        (record,) = await guardian.parts.store.page()
        if not record.orphan:  # a cancelled caller has told nobody that it left
            await guardian.parts.store.update(record, after_answer(record, AnswerEvent.LEFT, now=2.0))
        closed = await Orphans(guardian.parts, guardian.settle).write_off(record, "because", "ann")
        assert not closed.orphan
        again = await pair.second.settle(body)
        assert (again.heard["success"], again.heard["errorReason"]) == (False, "duplicate_settlement")
        assert await guardian.parts.store.page(orphans=True) == []

    Pair(url, LOST).play(script)


def test_a_success_that_a_dead_replica_told_nobody_becomes_an_orphan_and_a_live_ones_does_not(
    url: str,
) -> None:
    async def script(pair: Pair) -> None:
        first, second = pair.first.guardian, pair.second.guardian
        facts = {"network": NETWORK, "money": Money.CONFIRMED, "answer": Answer.NONE}
        theirs = settlement("1", owner=first.parts.replica, resource="/1", **facts)
        ours = settlement("2", owner=second.parts.replica, resource="/2", **facts)
        for record in (theirs, ours):
            await second.parts.store.claim(record)
        await second.settle.replicas.look()
        assert await second.parts.store.get(theirs.key) == theirs
        await pair.first.crash()
        await pair.until_record(lambda _: not pair.second.guardian.settle.replicas._alive - {ours.owner})
        await second.settle.replicas.look()
        (orphan,) = await second.parts.store.page(orphans=True)
        assert (orphan.key, orphan.owner) == (theirs.key, second.parts.replica)
        assert await second.parts.store.get(ours.key) == ours

    Pair(url, LOST).play(script)


def test_a_circuit_that_opens_here_opens_there(url: str) -> None:
    key = CircuitKey("main", NETWORK, "settle")

    async def script(pair: Pair) -> None:
        for nonce in (1, 2):
            await pair.first.settle(signed_payment(nonce))
        assert pair.first.guardian.parts.circuits.state(key) == "open"
        await pair.until(lambda: pair.second.guardian.parts.circuits.state(key) == "open")

    Pair(url, httpx.Response(401, text="no")).play(script)


def test_a_replica_that_leaves_in_order_hands_over_at_once(url: str) -> None:
    async def script(pair: Pair) -> None:
        call = asyncio.create_task(pair.first.settle(signed_payment()))
        await pair.until_record(lambda record: record.money is Money.POLLING)
        left = asyncio.get_running_loop().time()
        await pair.first.guardian.stop()
        assert (await call).heard["success"] is False
        await pair.until(lambda: pair.second.leads and pair.second.chain.targets)
        assert asyncio.get_running_loop().time() - left < replicas.ALIVE_S
        pair.second.chain.say(Paid(TX, 4, 1))
        again = await pair.second.settle(signed_payment())
        assert again.heard["success"] is True

    Pair(url, LOST).play(script)


def test_a_new_signature_waits_for_what_a_replica_left_whose_death_nobody_has_noticed_yet(url: str) -> None:
    never = asyncio.Event()

    async def script(pair: Pair) -> None:
        lost = asyncio.create_task(pair.first.settle(signed_payment(1)))
        await pair.until(lambda: pair.sent)
        await pair.first.crash()
        lost.cancel()
        again = asyncio.create_task(pair.second.settle(signed_payment(2)))
        await pair.until(lambda: pair.second.chain.targets)
        await pair.until_record(lambda record: record.money is not Money.PENDING)
        pair.second.chain.say(Paid(TX, 4, 1))
        answer = (await again).heard
        assert (answer["success"], answer["transaction"]) == (True, TX)
        assert len(pair.sent) == 1

    Pair(url, never).play(script)


def test_a_parallel_purchase_at_another_replica_does_not_wait(url: str) -> None:
    waiting = asyncio.Event()

    async def script(pair: Pair) -> None:
        first = asyncio.create_task(pair.first.settle(signed_payment(1)))
        await pair.until(lambda: pair.sent)
        begun = asyncio.get_running_loop().time()
        second = asyncio.create_task(pair.second.settle(signed_payment(2)))
        await pair.until(lambda: len(pair.sent) == 2)
        assert asyncio.get_running_loop().time() - begun < replicas.BEAT_S
        waiting.set()
        assert (await first).heard["success"]
        assert (await second).heard["success"]

    Pair(url, waiting).play(script)


def test_who_left_one_replica_and_signs_anew_at_another_is_not_sent_beside_the_first(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()
    monkeypatch.setattr(holding, "CALLER_CHECK_S", 60.0)  # nobody looks: its leaving tells

    async def script(pair: Pair) -> None:
        left = Caller(signed_payment(1), pair.first.guardian.parts.generation)
        first = asyncio.create_task(pair.first.guardian.settle.settle(left))
        await pair.until(lambda: pair.sent)
        left.leave()
        await asyncio.wait_for(first, 5)
        second = asyncio.create_task(pair.second.settle(signed_payment(2)))
        await pair.until(lambda: len(pair.second.guardian.settle.lives) == 2)
        waiting.set()
        assert (await second).heard["success"]
        assert len(pair.sent) == 1

    Pair(url, waiting).play(script)


def test_a_repeat_at_the_replica_that_watches_for_another_one_is_not_sent_again(url: str) -> None:
    waiting = asyncio.Event()

    async def script(pair: Pair) -> None:
        body = signed_payment(1)
        first = asyncio.create_task(pair.other.settle(body))
        await pair.until(lambda: pair.sent)
        await pair.leader.guardian.settle.replicas.look()  # it knows the record before any caller comes
        again = asyncio.create_task(pair.leader.settle(body))
        await pair.until(lambda: next(iter(pair.leader.guardian.settle.lives)).callers)
        waiting.set()
        heard = [(await first).heard["success"], (await again).heard["success"]]
        assert sorted(heard) == [False, True]
        assert len(pair.sent) == 1

    Pair(url, waiting).play(script)


def test_a_list_that_was_read_before_the_answer_sends_nothing_again(url: str) -> None:
    async def script(pair: Pair) -> None:
        body, leader = signed_payment(1), pair.leader.guardian
        other = pair.other.guardian
        waiting = asyncio.create_task(pair.other.settle(body))
        await pair.until(lambda: pair.sent)
        (old,) = await leader.parts.store.open_records()
        pair.going_on.set()
        assert (await waiting).heard["success"] is True
        await pair.until(lambda: not len(other.settle.lives))
        await other.settle.lives.attach(old)
        again = await pair.other.settle(body)
        assert again.heard["errorReason"] == "duplicate_settlement"
        assert len(pair.sent) == 1

    going_on = asyncio.Event()
    pair = Pair(url, going_on)
    pair.going_on = going_on  # type: ignore[attr-defined]
    pair.play(script)


class SlowWallets(Wallets):
    """A node that takes its time over what a contract wallet says."""

    def __init__(self, seconds: float) -> None:
        super().__init__("0x" + ERC1271_MAGIC + "0" * 56, chain_id=84532)
        self.seconds = seconds

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        if any(call.method == "eth_getCode" for call in calls):
            await asyncio.sleep(self.seconds)
        return await super().__call__(calls)


def test_a_node_that_is_slower_than_a_lease_gives_no_second_delivery(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "ALONE_S", 0.4)

    async def script(pair: Pair) -> None:
        body = signed_payment(key=STRANGER)  # of a contract wallet's owner
        for replica, seconds in ((pair.leader, 1.2), (pair.other, 0.0)):
            wires = [("n", SlowWallets(seconds))]
            replica.chain.endpoints = Endpoints(NETWORK, [], wires=wires)  # type: ignore[assignment]
        waiting = [asyncio.create_task(one.settle(body)) for one in (pair.leader, pair.other)]
        await pair.until(lambda: pair.leader.chain.targets)
        await pair.until_record(lambda record: record.money is Money.POLLING)
        pair.leader.chain.say(Paid(TX, 7, 1))
        heard = [caller.heard["success"] for caller in await asyncio.gather(*waiting)]
        assert sorted(heard) == [False, True]

    Pair(url, LOST).play(script)
