"""Webhooks: what becomes of a payment is told at least once, in its order, signed, and costs no payment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import WebhookVerificationError

from guardian.app import build
from guardian.chain.target import Expired, Paid
from guardian.errors import PolicyError
from guardian.facilitator.circuit import CircuitKey
from guardian.flow import webhook as sending
from guardian.flow.orphans import Orphans
from guardian.flow.webhook_signature import read_keys, signed_headers
from guardian.policy.model import Policy
from guardian.policy.webhooks import WebhookPolicy
from guardian.settlement.notice import Kind, Notice
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer
from guardian.store.open import open_store
from tests.flow.receiver import HANGS, SECRET, Got, Receiver
from tests.flow.scene import TX, Scene, refused, settled, signed_payment
from tests.flow.test_settle import LOST

ALL = tuple(str(kind) for kind in Kind)
LATE = {"hold_s": 0.05, "hold_without_hash_s": 0.05}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(sending, "ORPHAN_STANDS_S", 0.05)


class Told(Scene):
    """A scene with a webhook to each receiver."""

    def __init__(self, *replies: Any, hooks: tuple[dict[str, Any], ...] = (), **how: Any) -> None:
        self.hooks = hooks
        super().__init__(*replies, **how)

    def policy(self, settle: dict[str, Any]) -> Policy:
        told = tuple(WebhookPolicy.model_validate(one) for one in self.hooks)
        return super().policy(settle).model_copy(update={"webhooks": told})


def hook(receiver: Receiver, *events: str, name: str = "ops", **more: Any) -> dict[str, Any]:
    place = {"env": "HOOK_SECRET"}
    chosen = {"name": name, "url": receiver.url, "events": events or ALL, "secret": place}
    return chosen | more


def play(receiver: Receiver, script: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), receiver:
            await script()

    asyncio.run(run())


async def started(scene: Told) -> Told:
    await scene.guardian.start()
    return scene


async def stopped(scene: Told) -> None:
    await scene.guardian.parts.tasks.finish(0)
    await scene.guardian.stop()


async def orphaned(scene: Scene, nonce: int = 1) -> Settlement:
    await scene.settle(signed_payment(nonce, resource=f"https://shop/{nonce}"))
    await scene.until(lambda: scene.chain.targets)
    scene.chain.say(Paid(TX, 7, 1))
    return await scene.until_record(lambda record: record.orphan)


def test_a_payment_in_doubt_is_told_of_step_by_step_and_signed() -> None:
    receiver = Receiver()

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver),), **LATE))
        record = await orphaned(scene)
        got = await receiver.until(3)
        assert receiver.kinds == ["payment.unresolved", "payment.confirmed_late", "payment.orphaned"]
        for one in got:
            assert one.verified()["data"]["id"] == record.id
            assert (one.path, one.headers["content-type"]) == ("/hooks", "application/json")
            with pytest.raises(WebhookVerificationError):
                one.verified("whsec_" + "A" * 32)
        assert len({one.id for one in got}) == 3
        last = got[-1].event["data"]
        assert (last["transaction"], last["amount"], last["orphan"]) == (TX, "10000", True)
        assert "signature" not in str([one.event for one in got])
        await scene.until(lambda: scene.guardian.parts.outbox.waiting["ops"] == 0)
        assert await scene.store.notices.count("ops") == (0, 0)
        await stopped(scene)

    play(receiver, script)


def test_only_what_was_asked_for_is_told() -> None:
    receiver = Receiver()

    async def script() -> None:
        hooks = (hook(receiver, "payment.delivered"), hook(receiver, "payment.failed", name="other"))
        scene = await started(Told(settled(), refused("insufficient_funds"), hooks=hooks))
        await scene.settle(signed_payment(1))
        await receiver.until(1)
        await scene.settle(signed_payment(2, resource="https://shop/2"))
        await receiver.until(2)
        assert receiver.kinds == ["payment.delivered", "payment.failed"]
        assert receiver.got[1].event["data"]["reason"] == "insufficient_funds"
        await stopped(scene)

    play(receiver, script)


def test_what_is_not_taken_is_sent_again_with_its_id_and_what_comes_after_it_waits() -> None:
    receiver = Receiver(500, 302, 503, 200)

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver),), **LATE))
        await orphaned(scene)
        got = await receiver.until(6)
        assert receiver.kinds == ["payment.unresolved"] * 4 + ["payment.confirmed_late", "payment.orphaned"]
        assert len({one.id for one in got[:4]}) == 1
        assert [one.verified()["type"] for one in got] == receiver.kinds
        await stopped(scene)

    play(receiver, script)


def test_one_payment_that_is_not_taken_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 60.0)
    receiver = Receiver(500, 200)

    async def script() -> None:
        scene = await started(Told(settled(), hooks=(hook(receiver, "payment.delivered"),)))
        for nonce in (1, 2):
            await scene.settle(signed_payment(nonce, resource=f"https://shop/{nonce}"))
            await receiver.until(nonce)
        assert [one.event["data"]["resource"] for one in receiver.taken] == ["https://shop/2"]
        await stopped(scene)

    play(receiver, script)


def test_a_crash_between_the_move_and_its_event_loses_nothing(tmp_path: Path) -> None:
    down, receiver = Receiver(HANGS), Receiver()
    url = f"sqlite:///{tmp_path}/one.db"

    async def script() -> None:
        async with down:
            first = await started(Told(LOST, hooks=(hook(down),), store=open_store(url), **LATE))
            record = await orphaned(first)
            await down.until(1)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
                if (task.get_name() or "").startswith("webhook"):
                    task.cancel()
            await first.guardian.parts.store.close()
        second = await started(Told(LOST, hooks=(hook(receiver),), store=open_store(url), **LATE))
        got = await receiver.until(3)
        assert receiver.kinds == ["payment.unresolved", "payment.confirmed_late", "payment.orphaned"]
        assert got[0].id == down.got[0].id
        assert {one.event["data"]["id"] for one in got} == {record.id}
        await stopped(second)
        await stopped(first)

    play(receiver, script)


def test_a_receiver_that_hangs_costs_a_settle_nothing() -> None:
    receiver = Receiver(HANGS)

    async def script() -> None:
        scene = await started(Told(settled(), hooks=(hook(receiver, "payment.delivered"),)))
        for nonce in range(1, 30):
            begun = time.monotonic()
            caller = await scene.settle(signed_payment(nonce, resource=f"https://shop/{nonce}"))
            assert caller.heard["success"]
            assert time.monotonic() - begun < 2
        await receiver.until(8)
        assert len(receiver.got) == sending.AT_ONCE
        await stopped(scene)

    play(receiver, script)


def test_what_is_never_taken_is_laid_aside_and_sent_again_when_somebody_says_so() -> None:
    receiver = Receiver(500)

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver, "payment.unresolved", attempts=3),), **LATE))
        await scene.settle(signed_payment())
        await receiver.until(3)
        webhooks = scene.guardian.webhooks
        while not (dead := await webhooks.dead(10)):
            await asyncio.sleep(0.002)
        assert [(one.attempts, one.why, one.dead) for one in dead] == [(3, "http 500", True)]
        assert [(waiting, gone) for _, waiting, gone in await webhooks.standing()] == [(0, 1)]
        assert await webhooks.retry(("msg_unknown",)) == []
        receiver.says = [200]
        assert [one.id for one in await webhooks.retry()] == [dead[0].id]
        assert (await receiver.until(4))[3].id == receiver.got[0].id
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        assert 'guardian_webhooks_sent_total{outcome="dead",webhook="ops"} 1.0' in page
        await stopped(scene)

    play(receiver, script)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 307 x\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", id="redirect"),
        pytest.param(b"HTTP/1.1 410 x\r\ncontent-length: 0\r\n\r\n", id="gone"),
        pytest.param(b"HTTP/1.1 200 x\r\ncontent-length: 900000\r\n\r\n" + b"x" * 900_000, id="endless"),
        pytest.param(b"\x00" * 100 + b"\r\n\r\n", id="no HTTP"),
    ],
)
def test_only_a_short_success_counts_as_taken(answer: bytes) -> None:
    receiver = Receiver(answer)

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver, "payment.unresolved", attempts=1),), **LATE))
        await scene.settle(signed_payment())
        while not await scene.guardian.webhooks.dead(10):
            await asyncio.sleep(0.002)
        assert [one.path for one in receiver.got] == ["/hooks"]
        await stopped(scene)

    play(receiver, script)


def test_a_receiver_that_says_when_is_not_asked_before() -> None:
    receiver = Receiver(b"HTTP/1.1 503 x\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n")

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver, "payment.unresolved"),), **LATE))
        await scene.settle(signed_payment())
        await receiver.until(1)
        while not (kept := await scene.store.notices.waiting("ops", 1)) or not kept[0].attempts:
            await asyncio.sleep(0.002)
        assert 100 < kept[0].due - time.time() <= 120
        await stopped(scene)

    play(receiver, script)


def test_an_orphan_that_is_fetched_in_time_was_none_to_be_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ORPHAN_STANDS_S", 30.0)
    receiver = Receiver()

    async def script() -> None:
        events = ("payment.orphaned", "payment.delivered")
        scene = await started(Told(LOST, hooks=(hook(receiver, *events),), **LATE))
        await orphaned(scene)
        assert (await scene.settle(signed_payment(1, resource="https://shop/1"))).heard["success"]
        await receiver.until(1)
        assert receiver.kinds == ["payment.delivered"]
        await stopped(scene)

    play(receiver, script)


def test_an_orphan_that_is_closed_and_a_lie_are_told() -> None:
    receiver = Receiver()

    async def script() -> None:
        scene = await started(Told(LOST, settled(), hooks=(hook(receiver),), **LATE))
        record = await orphaned(scene)
        await receiver.until(3)
        await Orphans(scene.guardian.parts, scene.flow).write_off(record, "a test", "ann")
        await receiver.until(4)
        assert (receiver.kinds[3], receiver.got[3].event["data"]["closedBy"]) == (
            "payment.written_off",
            "ann",
        )
        scene.chain.targets.clear()
        await scene.settle(signed_payment(2, resource="https://shop/2"))
        await scene.until_record(lambda newest: newest.answer is Answer.ACCEPTED)
        scene.chain.say(Expired(9))
        await receiver.until(7)
        assert receiver.kinds[4:] == ["payment.delivered", "payment.failed", "payment.unpaid"]
        await stopped(scene)

    play(receiver, script)


def test_circuits_are_told_of_once() -> None:
    receiver = Receiver()

    async def script() -> None:
        scene = await started(Told(settled(), hooks=(hook(receiver, "circuit.opened", "circuit.closed"),)))
        guardian = scene.guardian
        key = CircuitKey("main", "eip155:84532", "settle")
        guardian.settle.replicas.circuit(key, "open")  # another replica has seen it, and tells of it
        guardian.parts.circuits._circuits[key].breaker.close()
        (got,) = await receiver.until(1)
        assert (got.kind, got.event["data"]["facilitator"]) == ("circuit.closed", "main")
        guardian.parts.circuits._circuits[key].breaker.open()
        assert (await receiver.until(2))[1].kind == "circuit.opened"
        await stopped(scene)

    play(receiver, script)


def test_without_webhooks_nothing_is_made_or_kept() -> None:
    async def script(scene: Scene) -> None:
        await orphaned(scene)
        outbox = scene.guardian.parts.outbox
        record = await scene.record()
        assert outbox.of_move(record, record) == ()
        assert outbox.waiting == {}
        assert await scene.store.notices.count("ops") == (0, 0)

    Scene(LOST, **LATE).play(script)


def test_a_full_queue_takes_no_more_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardian.flow.outbox.MAX_WAITING", 1)
    receiver = Receiver(HANGS)

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(hook(receiver),), **LATE))
        await orphaned(scene)
        assert await scene.store.notices.count("ops") == (1, 0)
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        assert 'guardian_webhooks_sent_total{outcome="full",webhook="ops"} 2.0' in page
        await stopped(scene)

    play(receiver, script)


def test_another_policy_tells_others_from_then_on() -> None:
    receiver = Receiver()

    async def script() -> None:
        scene = await started(Told(LOST, hooks=(), **LATE))
        scene.hooks = (hook(receiver, "payment.unresolved"),)
        await scene.guardian.adopt(scene.policy(LATE))
        await scene.settle(signed_payment())
        await receiver.until(1)
        scene.hooks = (hook(receiver, "payment.unresolved", secret={"env": "NOT_THERE"}),)
        with pytest.raises(PolicyError, match=r"webhooks\[0\].secret"):
            await scene.guardian.adopt(scene.policy(LATE))
        scene.hooks = ()
        await scene.guardian.adopt(scene.policy(LATE))
        await scene.settle(signed_payment(2, resource="https://shop/2"))
        assert len(receiver.got) == 1
        assert await scene.store.notices.count("ops") == (0, 0)
        await stopped(scene)

    play(receiver, script)


def test_while_a_secret_is_replaced_both_sign() -> None:
    other = "whsec_" + "B" * 32
    headers = signed_headers("msg_1", int(time.time()), b'{"a":1}', read_keys(f"{SECRET} {other}"))
    got = Got("/", {name.decode(): value.decode() for name, value in headers}, b'{"a":1}')
    assert got.verified(SECRET) == got.verified(other) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_ä", " "]
)
def test_what_is_no_secret_is_refused_without_being_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", text)
    chosen = {"name": "a", "url": "http://a", "events": ALL, "secret": {"env": "HOOK_SECRET"}}
    asked = Policy.model_validate(
        {"version": 1, "facilitators": [{"name": "m", "url": "http://m"}], "webhooks": [chosen]}
    )
    with pytest.raises(PolicyError) as refused_:
        build(asked, open_store("memory://"))
    assert len(text) < 7 or text not in str(refused_.value)


def test_many_events_that_have_to_wait_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    monkeypatch.setattr(sending, "READ", 2)

    async def script() -> None:
        scene = await started(Told(hooks=(hook(receiver),)))
        late = time.time() + 3600
        waits = [
            Notice(id=f"msg_{n}", hook="ops", subject=f"s/{n}", kind=Kind.FAILED, at=1.0, body="{}", due=late)
            for n in range(5)
        ]
        fresh = msgspec.structs.replace(
            waits[0], id="msg_new", subject="s/new", body='{"type":"new"}', due=0.0
        )
        await scene.store.notices.keep([*waits, fresh])
        scene.guardian.parts.outbox.kept("ops")
        (got,) = await receiver.until(1)
        assert got.id == "msg_new"
        await stopped(scene)

    play(receiver, script)
