"""A success is answered at once, and recorded together with what its caller was told."""

import asyncio
from typing import Any

from guardian.errors import StoreUnavailable
from guardian.settlement.record import Settlement, noted
from guardian.settlement.states import Answer, Money
from guardian.store.memory import MemoryStore
from tests.flow.scene import Scene, settled, signed_payment


class Counting(MemoryStore):
    """Remembers every version that was written, and can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Settlement] = []
        self.failures = 0

    async def update(self, old: Settlement, new: Settlement, **how: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        await super().update(old, new, **how)
        self.written.append(new)


def names(record: Settlement) -> list[str]:
    return [event.name for event in record.events]


def test_a_success_and_its_delivery_are_one_write() -> None:
    store = Counting()

    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        (written,) = store.written
        assert (written.money, written.answer) == (Money.CONFIRMED, Answer.ACCEPTED)
        assert names(written) == ["claimed", "reported_paid", "delivered"]

    Scene(settled(), store=store).play(script)


def test_a_success_whose_caller_has_left_is_recorded_as_an_orphan() -> None:
    waiting = asyncio.Event()

    async def script(scene: Scene) -> None:
        caller, call = scene.calling(signed_payment())
        await scene.until(lambda: scene.settles)
        caller.gone = True
        waiting.set()
        await call
        record = await scene.until_record(lambda record: record.answer is Answer.ABANDONED)
        assert record.money is Money.CONFIRMED
        again = await scene.settle(signed_payment())
        assert again.heard["success"] is True

    Scene(waiting).play(script)


def test_a_success_that_cannot_be_recorded_yet_is_answered_and_recorded_later() -> None:
    store = Counting()

    async def script(scene: Scene) -> None:
        store.failures = 1
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        again = await scene.settle(signed_payment())
        assert again.heard["errorReason"] == "duplicate_settlement"
        record = await scene.until_record(lambda record: record.answer is Answer.ACCEPTED)
        assert record.money is Money.CONFIRMED

    Scene(settled(), store=store).play(script)


def test_a_success_is_kept_where_another_write_came_first() -> None:
    class Overtaken(MemoryStore):
        overtaken = False

        async def update(self, old: Settlement, new: Settlement, **how: Any) -> None:
            if not self.overtaken:
                self.overtaken = True
                await super().update(old, noted(old, "looked_at", now=old.updated_at))
            await super().update(old, new, **how)

    store = Overtaken()

    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        record = await scene.record()
        assert (record.money, record.answer) == (Money.CONFIRMED, Answer.ACCEPTED)
        assert names(record) == ["claimed", "looked_at", "reported_paid", "delivered"]

    Scene(settled(), store=store).play(script)
