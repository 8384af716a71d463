"""Kept connections: what may be reused, what a reply may look like, and what a caller cannot smuggle in."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from crooked_sockets import OK, Peer, Script, Server, serving

from guardian import errors
from guardian.facilitator import connections as room
from guardian.facilitator import transport
from guardian.facilitator.client import Facilitator, Reply
from guardian.facilitator.connections import head_of, request_of

BODY = b'{"x402Version":2}'


def ask(script: Script, requests: int = 1, headers: list[tuple[bytes, bytes]] | None = None) -> list[Reply]:
    """The replies to so many requests, one after the other; the server must have had as many."""
    replies = []

    async def use(server: Server, facilitator: Facilitator) -> None:
        for _ in range(requests):
            replies.append(await facilitator.post("/settle", headers or [], BODY, timeout_s=5))
        assert len(server.requests) == requests

    with_facilitator(script, use)
    return replies


def with_facilitator(script: Script, use: Callable[[Server, Facilitator], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving(script) as server:
            facilitator = Facilitator("main", server.url)
            try:
                await use(server, facilitator)
            finally:
                await facilitator.close()

    asyncio.run(run())


def says(*replies: bytes) -> Script:
    async def script(peer: Peer) -> None:
        for reply in replies:
            await peer.hear()
            await peer.say(reply)
        await peer.reader.read()

    return script


def test_one_connection_serves_many_requests() -> None:
    async def use(server: Server, facilitator: Facilitator) -> None:
        for _ in range(5):
            assert (await facilitator.post("/settle", [], BODY, timeout_s=5)).body == b"ok"
        assert server.connections == 1

    with_facilitator(says(*[OK] * 5), use)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,
        OK + b"surplus",
    ],
    ids=["close", "http 1.0", "a second reply", "surplus bytes"],
)
def test_connection_that_cannot_be_trusted_is_not_used_again(reply: bytes) -> None:
    async def use(server: Server, facilitator: Facilitator) -> None:
        for _ in range(2):
            assert (await facilitator.post("/settle", [], BODY, timeout_s=5)).body == b"ok"
            await asyncio.wait_for(server.gone.wait(), 5)
            server.gone.clear()
        assert server.connections == 2

    with_facilitator(says(reply), use)


def test_bytes_that_nobody_asked_for_are_not_taken_for_the_next_reply() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)
        if peer.server.connections == 1:
            await said.wait()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await peer.reader.read()

    async def use(server: Server, facilitator: Facilitator) -> None:
        await facilitator.post("/settle", [], BODY, timeout_s=5)
        said.set()
        await asyncio.wait_for(server.gone.wait(), 5)
        assert (await facilitator.post("/settle", [], BODY, timeout_s=5)).body == b"ok"

    said = asyncio.Event()
    with_facilitator(script, use)


def test_connection_that_was_idle_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_CONNECTION_S", 0.05)

    async def use(server: Server, facilitator: Facilitator) -> None:
        await facilitator.post("/settle", [], BODY, timeout_s=5)
        await asyncio.wait_for(server.gone.wait(), 5)
        await facilitator.post("/settle", [], BODY, timeout_s=5)
        assert server.connections == 2

    with_facilitator(says(OK), use)


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX-A: 1\r\n\r\n" + OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: 1\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=["interim replies", "chunks", "no content", "empty gzip"],
)
def test_reply_of_every_shape_is_read_whole(reply: bytes, body: bytes) -> None:
    assert ask(says(reply))[0].body == body


def test_reply_that_ends_with_its_connection_is_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nok")

    assert ask(script)[0].body == b"ok"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 2_000_000 + b"\r\no\r\n0\r\n\r\n",
    ],
    ids=["upgrade", "two lengths", "two unlike lengths", "endless head", "endless chunk mark"],
)
def test_reply_that_is_none_is_lost(reply: bytes) -> None:
    with pytest.raises(errors.ReplyLost):
        ask(says(reply))


def test_requests_at_once_never_share_a_connection_and_replies_do_not_cross() -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.hear()
            body = request.split(b"\r\n\r\n", 1)[1]
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def use(server: Server, facilitator: Facilitator) -> None:
        for _ in range(3):
            posts = [facilitator.post("/settle", [], b"%d" % n, timeout_s=5) for n in range(20)]
            assert [reply.body for reply in await asyncio.gather(*posts)] == [b"%d" % n for n in range(20)]
        assert server.connections == 20

    with_facilitator(script, use)


def test_full_pool_gives_its_place_to_the_one_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 2)

    async def script(peer: Peer) -> None:
        while True:
            await peer.hear()
            await peer.say(OK)

    async def use(server: Server, facilitator: Facilitator) -> None:
        posts = [facilitator.post("/settle", [], BODY, timeout_s=5) for _ in range(20)]
        assert len(await asyncio.gather(*posts)) == 20
        assert server.connections <= 2

    with_facilitator(script, use)


def test_closing_loses_what_is_under_way() -> None:
    async def use(server: Server, facilitator: Facilitator) -> None:
        post = asyncio.create_task(facilitator.post("/settle", [], BODY, timeout_s=5))
        while not server.requests:
            await asyncio.sleep(0)
        await facilitator.close()
        with pytest.raises(errors.ReplyLost):
            await post

    with_facilitator(says(b""), use)


@pytest.mark.parametrize(
    "header",
    [(b"X-A", b"1\r\nX-Evil: 1"), (b"X-A: 1\r\nX-Evil", b"1"), (b"X A", b"1"), (b"", b"1"), (b"X-A", b"1\n")],
)
def test_header_that_would_be_two_is_left_out(header: tuple[bytes, bytes]) -> None:
    request = request_of(head_of("POST", httpx.URL("http://h/p")), [header, (b"X-Good", b"1")], BODY)
    head, body = request.split(b"\r\n\r\n", 1)
    assert body == BODY
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert names == [b"host", b"x-good", b"user-agent", b"accept", b"accept-encoding", b"content-length"]


def test_callers_own_accept_headers_are_kept() -> None:
    headers = [(b"Accept", b"a/b"), (b"User-Agent", b"sdk"), (b"accept-encoding", b"identity")]
    request = request_of(head_of("GET", httpx.URL("http://h/p?q=1")), headers, None)
    assert request == (
        b"GET /p?q=1 HTTP/1.1\r\nhost: h\r\nAccept: a/b\r\nUser-Agent: sdk\r\n"
        b"accept-encoding: identity\r\n\r\n"
    )


def test_certificates_are_verified() -> None:
    context = room._tls()
    assert context.check_hostname
    assert context.get_ca_certs()
