"""An event loop whose time is a number: whoever would wait jumps to the next timer, so nothing sleeps."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Timed(Protocol):
    """Whose `now` is the loop's time; tests hand its clock to what they test."""

    now: float


class _Jumping(selectors.SelectSelector):
    def __init__(self, timed: Timed) -> None:
        super().__init__()
        self._timed = timed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing is going to happen"
        self._timed.now += max(timeout, 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, timed: Timed) -> None:
        self._timed = timed
        super().__init__(_Jumping(timed))

    def time(self) -> float:
        return self._timed.now


def play(timed: Timed, script: Coroutine[Any, Any, T]) -> T:
    """Run a script to its end in `timed`'s time."""
    with asyncio.Runner(loop_factory=lambda: _Loop(timed)) as runner:
        return runner.run(script)


async def turns_of_the_loop(number: int = 10) -> None:
    """Let everybody who can go on do so, without time passing."""
    for _ in range(number):
        await asyncio.sleep(0)
