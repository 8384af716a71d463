"""Trying again: a count and a deadline, on an injected clock."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate

import pytest

from guardian.facilitator.retry import MAX_RETRY_AFTER_S, retry_after_s, try_again


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def run(
    time: Time,
    *,
    again: Callable[[int], float | None],
    attempts: int = 3,
    within_s: float = 1000.0,
) -> int:
    async def attempt(number: int) -> int:
        return number

    return asyncio.run(
        try_again(
            attempt,
            again=again,
            attempts=attempts,
            deadline=time.now + within_s,
            clock=time.clock,
            sleep=time.sleep,
        )
    )


def test_result_that_need_not_be_tried_again_is_given_at_once() -> None:
    time = Time()
    assert run(time, again=lambda number: None) == 1
    assert time.slept == []


def test_never_more_attempts_than_allowed_and_the_last_result_is_given() -> None:
    time = Time()
    assert run(time, again=lambda number: 0.0, attempts=4) == 4
    assert len(time.slept) == 3


def test_single_attempt_never_waits() -> None:
    time = Time()
    assert run(time, again=lambda number: 0.0, attempts=1) == 1
    assert time.slept == []


def test_waits_grow_with_jitter_from_one_second_to_eight() -> None:
    time = Time()
    run(time, again=lambda number: 0.0, attempts=7)
    for waited, least in zip(time.slept, [1, 2, 4, 8, 8, 8], strict=True):
        assert least <= waited <= min(least + 0.5, 8)


def test_retry_after_is_the_least_wait() -> None:
    time = Time()
    run(time, again=lambda number: 20.0 if number == 1 else None)
    assert time.slept == [20.0]


def test_no_wait_that_would_end_past_the_deadline() -> None:
    time = Time()
    assert run(time, again=lambda number: 20.0, within_s=20.0) == 1
    assert time.slept == []


def test_deadline_ends_the_attempts_before_their_count_does() -> None:
    time = Time()
    assert run(time, again=lambda number: 5.0, attempts=100, within_s=12.0) == 3
    assert time.now < 112.0


def test_each_result_is_judged_once() -> None:
    judged: list[int] = []

    def again(number: int) -> float | None:
        judged.append(number)
        return 0.0

    run(Time(), again=again)
    assert judged == [1, 2, 3]


@pytest.mark.parametrize("kind", [RuntimeError, OSError, asyncio.CancelledError])
def test_exception_and_cancellation_are_never_tried_again(kind: type[BaseException]) -> None:
    time, tried = Time(), []

    async def attempt(number: int) -> int:
        tried.append(number)
        raise kind

    async def script() -> None:
        with pytest.raises(kind):
            await try_again(
                attempt,
                again=lambda result: 0.0,
                attempts=3,
                deadline=1000.0,
                clock=time.clock,
                sleep=time.sleep,
            )

    asyncio.run(script())
    assert tried == [1]


def test_cancellation_while_waiting_passes() -> None:
    async def script() -> None:
        waiting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        async def attempt(number: int) -> int:
            return number

        task = asyncio.create_task(
            try_again(
                attempt, again=lambda result: 0.0, attempts=3, deadline=1e9, clock=lambda: 0.0, sleep=sleep
            )
        )
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(script())


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"1.5", 1.5),
        (b"0", 0.0),
        (b"-5", 0.0),
        (b"999999999", MAX_RETRY_AFTER_S),
        (formatdate(NOW + 12, usegmt=True).encode(), 12.0),
        (formatdate(NOW - 12, usegmt=True).encode(), 0.0),
        (formatdate(NOW + 10**6, usegmt=True).encode(), MAX_RETRY_AFTER_S),
        (b"soon", None),
        (b"", None),
        (b"nan", None),
        (b"inf", None),
        (b"\xff\xfe", None),
        (b"9" * 10_000, MAX_RETRY_AFTER_S),
        (b"Mon, 99 Foo 99999 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_capped(value: bytes, seconds: float | None) -> None:
    assert retry_after_s([(b"x", b"1"), (b"Retry-After", value)], NOW) == seconds


def test_no_retry_after_header_is_none() -> None:
    assert retry_after_s([(b"date", b"1")], NOW) is None
