"""Commands that share round trips: bounded, each with its own outcome."""

import asyncio

import pytest

from guardian.errors import StoreUnavailable
from guardian.store import redis_pipe
from guardian.store.redis_pipe import Pipes


def test_commands_of_one_turn_go_together_and_the_others_gather_meanwhile():
    async def main():
        sent, gate = [], asyncio.Event()

        async def execute(commands):
            sent.append([name for (name,) in commands])
            await gate.wait()
            return [name * 2 for (name,) in commands]

        pipes = Pipes(execute, lines=1, batch=3)
        asks = asyncio.gather(*(pipes.send((name,)) for name in "abcdefgh"))
        await asyncio.sleep(0)
        gate.set()
        assert await asks == [name * 2 for name in "abcdefgh"]
        assert sent == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]

    asyncio.run(main())


def test_each_has_its_own_error_and_a_broken_line_fails_all_of_its_own():
    async def main():
        async def execute(commands):
            if ("break",) in commands:
                raise OSError("broken")
            return [ValueError(name) if name == "bad" else name for (name,) in commands]

        pipes = Pipes(execute, lines=2, batch=2)
        asks = [pipes.send((name,)) for name in ("good", "bad", "break", "good")]
        good, bad, *broken = await asyncio.gather(*asks, return_exceptions=True)
        assert good == "good"
        assert isinstance(bad, ValueError)
        assert all(isinstance(outcome, OSError) for outcome in broken)

    asyncio.run(main())


def test_what_nobody_waits_for_any_more_is_not_sent():
    async def main():
        sent, gate = [], asyncio.Event()

        async def execute(commands):
            sent.extend(commands)
            await gate.wait()
            return [None] * len(commands)

        pipes = Pipes(execute, lines=1, batch=1)
        asks = [asyncio.create_task(pipes.send((name,))) for name in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asks[1].cancel()
        gate.set()
        await asyncio.gather(*asks, return_exceptions=True)
        await pipes.close()
        assert sent == [("a",), ("c",)]

    asyncio.run(main())


def test_too_many_that_wait_are_refused(monkeypatch):
    monkeypatch.setattr(redis_pipe, "WAITING_LIMIT", 3)

    async def main():
        async def execute(commands):
            return [None] * len(commands)

        pipes = Pipes(execute, lines=1, batch=1)
        outcomes = await asyncio.gather(*(pipes.send((n,)) for n in range(5)), return_exceptions=True)
        assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [False] * 3 + [True] * 2

    asyncio.run(main())


@pytest.mark.parametrize("lines", [1, 3])
def test_never_more_round_trips_than_lines(lines):
    async def main():
        running, most = 0, 0

        async def execute(commands):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return [None] * len(commands)

        pipes = Pipes(execute, lines=lines, batch=2)
        await asyncio.gather(*(pipes.send((n,)) for n in range(40)))
        assert most == lines

    asyncio.run(main())
