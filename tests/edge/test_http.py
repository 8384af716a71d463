"""HTTP in and out of the data port: bounded bodies, clean headers, and who is still there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from guardian.edge import http
from guardian.edge.http import HttpCall, TooLarge, Unfinished, forwarded, raw_path, read_body
from guardian.facilitator.headers import HOP_BY_HOP
from tests.edge.edge_stage import RawCaller, part


def test_hop_by_hop_headers_are_not_forwarded() -> None:
    sent = [(name, b"x") for name in sorted(HOP_BY_HOP - {b"connection"})]
    assert forwarded([*sent, (b"x-kept", b"1")]) == [(b"x-kept", b"1")]


def test_headers_that_connection_names_are_not_forwarded() -> None:
    sent = [(b"connection", b"close, X-Private"), (b"x-private", b"1"), (b"x-kept", b"2")]
    assert forwarded(sent) == [(b"x-kept", b"2")]


def test_repeated_headers_keep_their_number_and_order() -> None:
    sent = [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
    assert forwarded(sent) == sent


def test_a_body_in_parts_is_read_whole() -> None:
    caller = RawCaller(part(b"ab", more=True), part(b"", more=True), part(b"c"))
    assert asyncio.run(read_body(caller.receive)) == b"abc"


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_body_over_the_limit_is_refused(in_parts: bool) -> None:
    half = b"x" * (http.MAX_BODY_BYTES // 2 + 1)
    messages = [part(half, more=True), part(half, more=True)] if in_parts else [part(half * 2)]
    with pytest.raises(TooLarge):
        asyncio.run(read_body(RawCaller(*messages).receive))


def test_a_body_cut_off_by_its_caller_is_unfinished() -> None:
    async def run() -> None:
        caller = RawCaller(part(b"ab", more=True))
        caller.left.set()
        await read_body(caller.receive)

    with pytest.raises(Unfinished):
        asyncio.run(run())


@pytest.mark.parametrize("begun", [[part(b"ab", more=True)], []], ids=["begun", "not_begun"])
def test_a_body_that_never_ends_is_given_up(begun: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_TIMEOUT_S", 0.0)

    async def read() -> None:
        async with asyncio.timeout(5):  # a test of its own end
            with pytest.raises(TimeoutError):
                await read_body(RawCaller(*begun).receive)

    asyncio.run(read())


def test_a_body_that_begins_late_is_read_whole() -> None:
    async def read() -> bytes:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        reading = asyncio.create_task(read_body(messages.get))
        await asyncio.sleep(0)
        for message in (part(b"ab", more=True), part(b"c")):
            messages.put_nowait(message)
        return await reading

    assert asyncio.run(read()) == b"abc"


NO_POLICY: Any = None
"""A call hands its policy on and asks nothing of it."""


def _with_call(script: Callable[[HttpCall, RawCaller], Awaitable[None]]) -> None:
    async def run() -> None:
        caller = RawCaller()
        call = HttpCall(b"", (), "", NO_POLICY, caller.receive, caller.send)
        try:
            await script(call, caller)
        finally:
            call.close()

    asyncio.run(run())


def test_an_answer_to_a_caller_that_left_is_not_written() -> None:
    async def script(call: HttpCall, caller: RawCaller) -> None:
        caller.left.set()
        while not call.gone:
            await asyncio.sleep(0)
        assert await call.answer(200, (), b"{}") is False
        assert caller.sent == []

    _with_call(script)


def test_a_caller_that_left_a_moment_ago_is_not_answered_though_nobody_listened_yet() -> None:
    async def script(call: HttpCall, caller: RawCaller) -> None:
        caller.left.set()
        assert await call.answer(200, (), b"{}") is False
        assert caller.sent == []

    _with_call(script)


def test_an_answer_on_a_broken_connection_is_not_an_answer() -> None:
    async def script(call: HttpCall, caller: RawCaller) -> None:
        async def broken(message: object) -> None:
            raise OSError("connection reset")

        call._send = broken
        assert await call.answer(200, (), b"{}") is False
        assert call.gone

    _with_call(script)


def test_who_holds_a_caller_is_told_when_a_server_that_says_it_late_says_that_it_has_left() -> None:
    async def script(call: HttpCall, caller: RawCaller) -> None:
        told = asyncio.Event()
        call.when_gone(told.set)
        caller.left.set()
        await asyncio.wait_for(told.wait(), 5)
        assert call.gone

    _with_call(script)


class Line:
    """Of a server that knows how its connection is, and writes no answer itself."""

    def __init__(self, stood: bool) -> None:
        self._stood = stood

    def stands(self) -> bool:
        return self._stood

    def when_lost(self, tell: object) -> None: ...

    def write(self, status: int, headers: object, body: bytes) -> bool:
        return False


@pytest.mark.parametrize("stands", [True, False])
def test_an_answer_was_heard_only_where_the_connection_stood_to_its_end(stands: bool) -> None:
    async def run() -> None:
        caller = RawCaller()
        call = HttpCall(b"", (), "", NO_POLICY, caller.receive, caller.send, Line(stands))
        assert await call.answer(200, (), b"{}") is stands
        assert call.gone is not stands

    asyncio.run(run())


def test_an_answer_has_its_own_length_and_keeps_the_other_headers() -> None:
    async def script(call: HttpCall, caller: RawCaller) -> None:
        facilitators = ((b"content-length", b"99"), (b"connection", b"close"), (b"x-a", b"1"), (b"x-a", b"2"))
        assert await call.answer(200, facilitators, b"{}")
        assert caller.sent[0]["headers"] == [
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"content-type", b"application/json"),
            (b"content-length", b"2"),
        ]

    _with_call(script)


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b?q=1"}, "/a%20b"),
        ({"path": "/plain"}, "/plain"),
        ({"path": "/sub/settle", "raw_path": b"/sub/settle", "root_path": "/sub"}, "/settle"),
    ],
)
def test_the_path_is_read_as_it_was_sent(scope: dict[str, object], path: str) -> None:
    assert raw_path(scope) == path
