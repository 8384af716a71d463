"""An upstream over real sockets: limits, connections, and what each failure proves."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from guardian.errors import NotSent, ReplyLost
from guardian.upstream.client import Upstream, Upstreams
from guardian.upstream.limits import HELD_BYTES, Limits
from guardian.upstream.place import Place
from guardian.upstream.reply import Reply, whole_reply

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serves_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await _head(reader):
        writer.write(OK)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def play(
    script: Callable[[Upstream], Awaitable[None]], serve: Serve = serves_ok, limits: Limits | None = None
) -> None:
    async def run() -> None:
        connections: list[asyncio.Task[None]] = []

        async def serve_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            connections.append(task)
            with contextlib.suppress(ConnectionError):
                await serve(reader, writer)
                writer.close()
                await writer.wait_closed()

        async with (
            asyncio.timeout(10),
            await asyncio.start_server(serve_to_the_end, "127.0.0.1", 0) as server,
        ):
            port = server.sockets[0].getsockname()[1]
            upstream = Upstream(Place.of(f"http://127.0.0.1:{port}"), limits)
            try:
                await script(upstream)
            finally:
                await upstream.aclose()
                await asyncio.gather(*connections)

    asyncio.run(run())


async def whole(reply: Reply) -> bytes:
    body = b""
    while (part := await reply.read(5)) is not None:
        body += part
    return body


def test_an_exchange_gives_the_reply_and_its_connection_back() -> None:
    async def script(upstream: Upstream) -> None:
        for _ in range(3):
            exchange = await upstream.begin(GET)
            reply = await exchange.reply()
            assert (reply.status, await whole(reply)) == (200, b"ok")
            exchange.close()
            exchange.close()
        assert len(upstream._open) == 1

    play(script)


def test_more_exchanges_than_connections_wait_and_are_then_refused_unsent() -> None:
    async def script(upstream: Upstream) -> None:
        held = [await upstream.begin(GET) for _ in range(2)]
        with pytest.raises(NotSent, match="in use"):
            await upstream.begin(GET)
        waiting = asyncio.create_task(upstream.begin(GET))
        await held[0].reply()
        held[0].close()
        third = await waiting
        assert (await third.reply()).status == 200
        for exchange in (held[1], third):
            exchange.close()

    play(script, limits=Limits(connections=2, place_s=0.1))


def test_a_name_that_nobody_knows_was_sent_nothing() -> None:
    async def script() -> None:
        with pytest.raises(NotSent):
            await Upstream(Place.of("http://no-such-host.invalid")).begin(GET)

    asyncio.run(script())


def test_a_server_without_a_certificate_that_is_trusted_is_sent_nothing() -> None:
    heard, ended = bytearray(), asyncio.Event()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        writer.transport.abort()
        ended.set()

    async def script(upstream: Upstream) -> None:
        secure = Upstream(Place.of(f"https://127.0.0.1:{upstream.place.port}"))
        with pytest.raises(NotSent):
            await secure.begin(GET)
        await ended.wait()
        await asyncio.sleep(0)
        assert heard
        assert b"GET" not in heard

    play(script, listens)


def test_a_connection_that_is_not_used_is_closed_before_the_upstream_closes_it() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serves_ok(reader, writer)
        closed.set()

    async def script(upstream: Upstream) -> None:
        exchange = await upstream.begin(GET)
        await whole(await exchange.reply())
        exchange.close()
        await closed.wait()
        assert not upstream._open

    play(script, serve, Limits(kept_s=0.05))


def test_a_reply_that_is_not_read_holds_the_upstream_back() -> None:
    size = 40_000_000

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()

    async def script(upstream: Upstream) -> None:
        exchange = await upstream.begin(GET)
        reply = await exchange.reply()
        while reply.held <= HELD_BYTES:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert reply.held < 4 * HELD_BYTES
        assert not await reply.gathered(HELD_BYTES)
        assert len(await whole(reply)) == size
        exchange.close()

    play(script, pours)


def test_a_closed_exchange_leaves_no_connection_behind() -> None:
    ended = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        await reader.read()
        ended.set()

    async def script(upstream: Upstream) -> None:
        exchange = await upstream.begin(GET)
        exchange.close()
        await ended.wait()
        assert not upstream._open

    play(script, waits)


def test_closing_the_upstream_loses_what_is_under_way() -> None:
    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def script(upstream: Upstream) -> None:
        exchange = await upstream.begin(GET)
        await upstream.aclose()
        with pytest.raises(ReplyLost):
            await exchange.reply()
        exchange.close()

    play(script, waits)


def test_routes_of_one_origin_share_their_connections() -> None:
    upstreams = Upstreams()
    one, other = Place.of("http://shop/a"), Place.of("http://shop/b")
    assert upstreams.at(one) is upstreams.at(other)
    assert upstreams.at(one) is not upstreams.at(Place.of("https://shop/a"))


def test_a_reply_of_our_own_is_whole_and_names_its_length() -> None:
    reply = whole_reply(503, [(b"content-length", b"9"), (b"x", b"1")], b"body")
    assert reply.whole
    assert reply.headers == [(b"x", b"1"), (b"content-length", b"4")]
    assert asyncio.run(whole(reply)) == b"body"
