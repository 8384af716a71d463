"""Two replicas on one Redis: one of them sends, and another one goes on where it has died."""

import asyncio
from collections.abc import Iterator

import pytest

from guardian.chain.target import Paid
from guardian.facilitator.circuit import CircuitKey
from guardian.flow import webhook as sending
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer, redis_command
from guardian.settlement.classify import Health
from guardian.store.open import open_store
from tests.flow.receiver import HANGS, SECRET, Receiver
from tests.flow.scene import TX, refused, signed_payment
from tests.flow.test_webhooks import Told, hook, play, started, stopped

LOST = refused("unexpected_settle_error", message="context deadline exceeded")
IN_ORDER = ["payment.unresolved", "payment.confirmed_late", "payment.orphaned"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def url(server: RedisServer, request: pytest.FixtureRequest) -> str:
    return f"{server.url}?prefix=h{abs(hash(request.node.name)) % 10**9}"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    for name, seconds in {
        "FIRST_PAUSE_S": 0.01,
        "ORPHAN_STANDS_S": 0.05,
        "LOOK_S": 0.1,
        "LEASE_S": 1.0,
        "RENEW_S": 0.2,
    }.items():
        monkeypatch.setattr(sending, name, seconds)


def told(url: str, receiver: Receiver) -> Told:
    return Told(LOST, hooks=(hook(receiver),), store=open_store(url), hold_s=0.05, hold_without_hash_s=0.05)


def _watched(*scenes: Told) -> list[str]:
    return [key for scene in scenes for key in scene.chain.targets]


async def orphaned_at(scene: Told, others: Told, nonce: int = 1) -> None:
    """Whichever of them watches hears of the chain."""
    await scene.settle(signed_payment(nonce, resource=f"https://shop/{nonce}"))
    await scene.until(lambda: any(key.endswith(f"{nonce:064x}") for key in _watched(scene, others)))
    for one in (scene, others):
        one.chain.say(Paid(TX, 7, 1))


def test_each_event_is_sent_by_one_replica_whichever_made_it(url: str) -> None:
    receiver = Receiver()

    async def script() -> None:
        first, second = await started(told(url, receiver)), await started(told(url, receiver))
        for nonce, (one, other) in enumerate([(first, second), (second, first)], 1):
            await orphaned_at(one, other, nonce)
            await receiver.until(3 * nonce)
        await asyncio.sleep(0)
        assert receiver.kinds == IN_ORDER * 2
        assert len({got.id for got in receiver.got}) == 6
        key = CircuitKey("main", "eip155:84532", "settle")
        for _ in range(5):  # the threshold is lower
            ticket = first.guardian.parts.circuits.admit(key)
            if ticket is not None:
                first.guardian.parts.circuits.record(ticket, Health.FAULTY)
        await receiver.until(7)
        await second.until(lambda: second.guardian.parts.circuits.state(key) == "open")
        assert receiver.kinds[6:] == ["circuit.opened"]
        for scene in (first, second):
            await stopped(scene)

    play(receiver, script)


def test_what_a_replica_that_died_did_not_deliver_is_sent_by_another(url: str) -> None:
    receiver = Receiver(HANGS)

    async def script() -> None:
        first = await started(told(url, receiver))
        second = await started(told(url, receiver))
        await orphaned_at(first, second)
        await receiver.until(1)
        (leader,) = [one for one in (first, second) if one.guardian.webhooks._hooks["ops"].leads]
        (other,) = {first, second} - {leader}
        leader.guardian.webhooks._hooks["ops"]._task.cancel()  # type: ignore[union-attr]
        receiver.says = [200]
        got = await receiver.until(4)
        assert [one.kind for one in got] == [IN_ORDER[0], *IN_ORDER]
        assert got[0].id == got[1].id
        await other.until(lambda: other.guardian.webhooks._hooks["ops"].leads)
        for scene in (first, second):
            await stopped(scene)

    play(receiver, script)
