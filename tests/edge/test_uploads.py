"""Long request bodies to a route: they stream, and count as held only while they are held here."""

import asyncio

import pytest

from guardian import listener
from guardian.edge import agent_plane
from guardian.flow.paid import PaidExchange
from tests.edge.agent_stage import OK, Asked, Stage, settled

MOST_HELD = 1_000_000
PIECE = b"x" * 100_000


class NoPurchase:
    """A flow that is never asked, and for which the beginnings of bodies are kept."""

    async def handle(self, exchange: PaidExchange) -> None:
        raise AssertionError


def chunked(piece: bytes, size: int) -> bytes:
    return b"%x\r\n%b\r\n" % (size, piece[:size]) * (len(piece) // size)


@pytest.mark.parametrize(("pieces", "chunk"), [(60, 0), (60, 5000), (6, 2)])
def test_an_upload_may_be_longer_than_all_that_may_be_held(
    monkeypatch: pytest.MonkeyPatch, pieces: int, chunk: int
) -> None:
    """chunk: bytes in each chunk; 0: the body's length is named."""
    monkeypatch.setattr(listener, "MAX_HELD_BYTES", MOST_HELD)
    monkeypatch.setattr(agent_plane, "MAX_PAID_BODY_BYTES", 300_000)
    size = pieces * len(PIECE)

    async def script(stage: Stage) -> None:
        held: list[int] = []
        came = 0

        async def takes_all(asked: Asked) -> None:
            nonlocal came
            while came < size:
                came += len(await (asked.chunk() if chunk else asked.reader.read(65536)))
                held.append(stage.config.held_bytes)
            await asked.say(OK)

        stage.upstream.whole = False
        stage.upstream.script = takes_all
        client = await stage.client()
        framed = b"transfer-encoding: chunked" if chunk else b"content-length: %d" % size
        await client.say(b"PUT /weather/x HTTP/1.1\r\nhost: g\r\n%b\r\n\r\n" % framed)
        for _ in range(pieces):
            await client.say(chunked(PIECE, chunk) if chunk else PIECE)
        await client.say(b"0\r\n\r\n" if chunk else b"")
        assert (await client.hear()).body == b"ok"
        assert came == size
        assert max(held) < MOST_HELD
        assert stage.config.held_bytes == 0

    Stage(paid=NoPurchase()).play(script)


def test_what_the_upstream_does_not_take_stays_counted() -> None:
    async def script(stage: Stage) -> None:
        async def takes_nothing(asked: Asked) -> None:
            await asyncio.Event().wait()

        stage.upstream.whole = False
        stage.upstream.script = takes_nothing
        client = await stage.client()
        await client.say(b"PUT /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: 99999999\r\n\r\n")
        sending = asyncio.create_task(client.say(b"x" * 99_999_999))
        await stage.upstream.arrived.get()
        assert await settled(lambda: stage.config.held_bytes) > 65536
        sending.cancel()

    Stage().play(script)


def test_a_body_behind_its_answer_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_HELD_BYTES", len(PIECE) // 2)

    async def script(stage: Stage) -> None:
        client = await stage.client()
        head = b"PUT /nowhere/x HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(PIECE)
        await client.say(head)
        assert (await client.hear()).status == 404
        await client.say(PIECE)
        assert (await client.ask(b"/weather/x")).body == b"ok"

    Stage().play(script)
