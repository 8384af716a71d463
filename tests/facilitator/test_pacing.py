"""The turns of one facilitator as scripts in virtual time: who may send, and when."""

import asyncio
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from guardian.errors import NotSent
from guardian.facilitator.pacing import MAX_WAITING, Turns
from guardian.policy.units import Pace
from tests.facilitator.virtual_time import play, turns_of_the_loop

BASE = "eip155:8453"
MAINNET = "eip155:1"
LONG = 1e9


class Script:
    """One facilitator's turns; `sent` says who got a turn, and when."""

    def __init__(self, max_settles: int | None = None, pace: Pace | None = None) -> None:
        self.now = 1000.0
        self.sent: list[tuple[object, float]] = []
        self.turns = Turns(lambda: self.now)
        self.turns.set(max_settles, pace)
        self.let_go = asyncio.Event()

    async def call(
        self,
        name: object,
        network: str = BASE,
        operation: str = "settle",
        *,
        within: float = LONG,
        lasts: float | None = 0.0,
    ) -> None:
        """One request; lasts: in seconds, None until the script lets go."""
        async with self.turns.turn(network, operation, self.now + within):
            self.sent.append((name, round(self.now - 1000.0, 6)))
            await (self.let_go.wait() if lasts is None else asyncio.sleep(lasts))

    def at_once(self, network: str = BASE, operation: str = "settle") -> bool:
        """Whether a request that will not wait is let through."""

        async def ask() -> bool:
            try:
                await self.call("at once", network, operation, within=0.0)
            except NotSent:
                return False
            return True

        return play(self, ask())

    @property
    def names(self) -> list[object]:
        return [name for name, _ in self.sent]


def calling(*calls: Coroutine[Any, Any, None]) -> list["asyncio.Task[None]"]:
    return [asyncio.get_running_loop().create_task(call) for call in calls]


def run(script: Script, steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    play(script, steps())


def test_facilitator_without_limits_makes_nobody_wait() -> None:
    script = Script()

    async def steps() -> None:
        await asyncio.gather(*(script.call(number, within=-1.0, lasts=5.0) for number in range(100)))

    run(script, steps)
    assert {when for _, when in script.sent} == {0.0}


def test_cap_lets_so_many_settles_run_at_once_in_the_order_of_arrival() -> None:
    script = Script(max_settles=2)

    async def steps() -> None:
        await asyncio.gather(*(script.call(number, lasts=1.0) for number in range(6)))

    run(script, steps)
    assert script.sent == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]


def test_cap_holds_for_each_network_and_not_for_verify() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        await asyncio.gather(
            script.call("base", BASE, lasts=9.0),
            script.call("mainnet", MAINNET, lasts=9.0),
            *(script.call("verify", BASE, "verify", lasts=9.0) for _ in range(5)),
        )

    run(script, steps)
    assert {when for _, when in script.sent} == {0.0}


def test_late_comer_does_not_overtake_who_waits() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        first, *_ = tasks = calling(script.call("first", lasts=1.0), script.call("second", lasts=1.0))
        await first
        # The place is the second's already, though that one has not run since.
        with pytest.raises(NotSent):
            await script.call("late", within=0.0)
        await asyncio.gather(*tasks)

    run(script, steps)
    assert script.names == ["first", "second"]


def test_turn_that_does_not_come_in_time_is_not_sent() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        holder, *_ = calling(script.call("holder", lasts=10.0))
        await turns_of_the_loop()
        with pytest.raises(NotSent, match="busy"):
            await script.call("impatient", within=3.0)
        assert script.now == pytest.approx(1003.0)
        with pytest.raises(NotSent, match="busy"):
            await script.call("at once", within=0.0)
        assert script.now == pytest.approx(1003.0)
        await holder

    run(script, steps)
    assert script.names == ["holder"]
    assert script.at_once()


def test_free_turn_comes_even_when_the_deadline_is_past() -> None:
    assert Script(max_settles=1, pace=Pace(1, 1.0)).at_once()


@pytest.mark.parametrize("fails", [False, True])
def test_place_is_free_again_however_the_request_ends(fails: bool) -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        [task] = calling(script.call("first", lasts=None))
        await turns_of_the_loop()
        if fails:
            task.cancel()
        script.let_go.set()
        await asyncio.gather(task, return_exceptions=True)

    run(script, steps)
    assert script.at_once()
    assert script.at_once()


def test_who_leaves_the_queue_takes_no_place_with_him() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        tasks = calling(*(script.call(number, lasts=1.0) for number in range(4)))
        await turns_of_the_loop()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(script, steps)
    assert script.sent == [(0, 0.0), (2, 1.0), (3, 2.0)]
    assert script.at_once()


def test_who_leaves_in_the_moment_of_his_turn_hands_it_on() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        first, second, third = calling(
            script.call("first", lasts=None), script.call("second"), script.call("third")
        )
        await turns_of_the_loop()
        script.let_go.set()
        await asyncio.sleep(0)  # the first has handed its place over, the second has not run since
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)

    run(script, steps)
    assert script.names == ["first", "third"]
    assert script.at_once()


def test_deadline_in_the_moment_of_the_turn_loses_no_place() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        tasks = calling(
            *(script.call(number, lasts=1.0, within=float(number or LONG)) for number in range(5))
        )
        await asyncio.gather(*tasks, return_exceptions=True)

    run(script, steps)
    assert script.at_once()


def test_wider_cap_lets_waiters_in_at_once_and_a_narrower_one_waits() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        tasks = calling(*(script.call(number, lasts=None) for number in range(5)))
        await turns_of_the_loop()
        script.turns.set(3, None)
        await turns_of_the_loop()
        assert script.names == [0, 1, 2]
        script.turns.set(1, None)
        script.let_go.set()
        await asyncio.gather(*tasks)

    run(script, steps)
    assert script.names == [0, 1, 2, 3, 4]
    assert script.at_once()


def test_cap_that_is_lifted_lets_everybody_in() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        tasks = calling(*(script.call(number, lasts=None) for number in range(5)))
        await turns_of_the_loop()
        script.turns.set(None, None)
        await turns_of_the_loop()
        assert len(script.names) == 5
        script.let_go.set()
        await asyncio.gather(*tasks)

    run(script, steps)


def test_queue_that_is_full_refuses_at_once() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        tasks = calling(*(script.call(number, lasts=0.0) for number in range(MAX_WAITING + 1)))
        await turns_of_the_loop(1)
        with pytest.raises(NotSent, match="busy"):
            await script.call("too many")
        await asyncio.gather(*tasks)

    run(script, steps)
    assert len(script.sent) == MAX_WAITING + 1


def test_pace_lets_a_burst_through_and_the_next_when_its_period_is_over() -> None:
    script = Script(pace=Pace(3, 1.0))

    async def steps() -> None:
        await asyncio.gather(*(script.call(number) for number in range(8)))

    run(script, steps)
    assert script.names == list(range(8))
    assert [round(when, 2) for _, when in script.sent] == [0, 0, 0, 1, 1, 1, 2, 2]
    script.now += 1.0
    assert script.at_once()


@pytest.mark.parametrize("pace", [Pace(7, 1.0), Pace(60, 60.0), Pace(2000, 1.0)])
def test_no_period_sees_more_starts_than_the_pace_allows(pace: Pace) -> None:
    script = Script(pace=pace)

    async def one(number: int) -> None:
        await asyncio.sleep((number * number % 101) / 101 * pace.per_s * 2)
        await script.call(number)

    async def steps() -> None:
        await asyncio.gather(*(one(number) for number in range(pace.count * 4)))

    run(script, steps)
    starts = [when for _, when in script.sent]
    gaps = [later - early for early, later in zip(starts, starts[pace.count :], strict=False)]
    assert min(gaps) >= pace.per_s - 1e-5
    assert starts[-1] <= pace.per_s * 4.2


@pytest.mark.parametrize(("pace", "every_s"), [(Pace(600, 60.0), 0.102), (Pace(2000, 1.0), 0.00055)])
def test_steady_flow_below_the_pace_never_waits(pace: Pace, every_s: float) -> None:
    script = Script(pace=pace)

    async def steps() -> None:
        for number in range(5000):
            before = script.now
            await script.call(number)
            assert script.now == before
            await asyncio.sleep(every_s)

    run(script, steps)


def test_all_networks_and_operations_share_the_pace() -> None:
    script = Script(pace=Pace(3, 1.0))
    assert script.at_once(BASE, "settle")
    assert script.at_once(MAINNET, "settle")
    assert script.at_once(BASE, "verify")
    assert not script.at_once(BASE, "verify")
    script.now += 1.0
    assert script.at_once(BASE, "verify")


def test_turn_that_plainly_cannot_come_in_time_is_refused_without_waiting() -> None:
    script = Script(pace=Pace(2, 1.0))

    async def steps() -> None:
        tasks = calling(*(script.call(number) for number in range(6)))
        await turns_of_the_loop()
        for within in (0.9, 1.9, 2.9):
            with pytest.raises(NotSent, match="busy"):
                await script.call("hopeless", within=within)
            assert script.now == 1000.0
        await script.call("in time", within=3.1)
        await asyncio.gather(*tasks)

    run(script, steps)
    assert script.names[-1] == "in time"
    assert script.sent[-1][1] == pytest.approx(3.0)


def test_who_stops_waiting_for_the_pace_costs_the_others_nothing() -> None:
    script = Script(pace=Pace(1, 1.0))

    async def steps() -> None:
        tasks = calling(*(script.call(number) for number in range(4)))
        await turns_of_the_loop()
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(script, steps)
    assert script.sent == [(0, 0.0), (3, 1.0)]


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_who_gives_up_waiting_for_the_pace_leaves_his_place_under_the_cap(is_cancelled: bool) -> None:
    script = Script(max_settles=1, pace=Pace(1, 10.0))

    async def steps() -> None:
        await script.call("first")
        [task] = calling(script.call("second", within=LONG if is_cancelled else 1.0))
        await turns_of_the_loop()
        if is_cancelled:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await script.call("third")

    run(script, steps)
    assert script.sent == [("first", 0.0), ("third", 10.0)]


def test_faster_pace_helps_those_who_wait_already() -> None:
    script = Script(pace=Pace(1, 3600.0))

    async def steps() -> None:
        await script.call("first")
        [task] = calling(script.call("second"))
        await asyncio.sleep(1.5)
        script.turns.set(None, Pace(1, 2.0))
        await task

    run(script, steps)
    assert script.sent[-1][1] == pytest.approx(2.0)


def test_slower_pace_counts_what_was_sent_before() -> None:
    script = Script(pace=Pace(10, 1.0))
    for _ in range(5):
        assert script.at_once()
    script.turns.set(None, Pace(2, 10.0))
    assert not script.at_once()
    script.now += 9.9
    assert not script.at_once()
    script.now += 0.2
    assert script.at_once()


def test_pace_that_is_lifted_holds_nobody_new() -> None:
    script = Script(pace=Pace(1, 60.0))
    assert script.at_once()
    script.turns.set(None, None)
    assert script.at_once()


def test_late_comer_takes_no_token_from_who_waits_for_the_pace() -> None:
    script = Script(pace=Pace(1, 1.0))

    async def steps() -> None:
        tasks = calling(script.call("first"), script.call("second"))
        await turns_of_the_loop()
        script.now += 1.0  # the token is back, and the second has not run since
        with pytest.raises(NotSent):
            await script.call("late", within=0.0)
        await asyncio.gather(*tasks)

    run(script, steps)
    assert script.names == ["first", "second"]


def test_who_gave_up_takes_no_room_in_the_queue() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        holder, *impatient = calling(
            script.call("holder", lasts=5.0),
            *(script.call(number, within=1.0) for number in range(MAX_WAITING)),
        )
        await asyncio.gather(*impatient, return_exceptions=True)
        await script.call("patient")
        await holder

    run(script, steps)
    assert script.sent == [("holder", 0.0), ("patient", 5.0)]


def test_networks_that_callers_invent_fill_no_memory() -> None:
    script = Script(max_settles=1)

    async def steps() -> None:
        await script.call("warm up", "made-up")
        script.sent.clear()
        tracemalloc.start()
        for number in range(2000):
            await script.call("", f"made-up:{number}")
            script.sent.clear()
        assert tracemalloc.get_traced_memory()[0] < 50_000
        tracemalloc.stop()

    run(script, steps)
