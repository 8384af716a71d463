"""One facilitator over any httpx transport: paths, bytes, limits, streams."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
import respx
from crooked_sockets import OK, Peer, serving

from guardian import errors
from guardian.facilitator.client import MAX_KNOWN_URLS, Facilitator, Reply

URL = "http://facilitator.test/platform/v2/x402"


def over(router: respx.Router, *, max_reply_bytes: int = 1000) -> Facilitator:
    transport = httpx.MockTransport(router.async_handler)
    return Facilitator("main", URL, transport=transport, max_reply_bytes=max_reply_bytes)


def post(router: respx.Router, body: bytes = b"{}") -> Reply:
    return asyncio.run(over(router).post("/settle", [], body, timeout_s=5))


@pytest.mark.parametrize("status", [200, 402, 429, 500, 503])
def test_reply_of_any_status_is_a_reply(status: int) -> None:
    router = respx.Router()
    router.post(URL + "/settle").respond(status, content=b"<html>", headers={"retry-after": "7"})
    reply = post(router)
    assert (reply.status, reply.body) == (status, b"<html>")
    assert (b"retry-after", b"7") in [(name.lower(), value) for name, value in reply.headers]
    assert reply.elapsed_s >= 0


def test_body_is_passed_byte_for_byte() -> None:
    odd = b'{ "a" : 1.0,\n"\xc3\xa9":"\\u00e9" }'
    router = respx.Router()
    route = router.post(URL + "/settle").respond(200, content=odd)
    assert post(router, odd).body == odd
    assert route.calls.last.request.content == odd


def test_hop_by_hop_headers_and_lengths_stay_behind_in_both_directions() -> None:
    router = respx.Router()
    route = router.post(URL + "/settle").respond(
        200, content=b"ok", headers={"connection": "x-hop", "x-hop": "1", "keep-alive": "5", "x-kept": "1"}
    )
    sent = [(b"TE", b"trailers"), (b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"X-Kept", b"1")]
    reply = asyncio.run(over(router).post("/settle", sent, b"{}", timeout_s=5))
    assert [name.lower() for name, _ in reply.headers] == [b"x-kept"]
    arrived = route.calls.last.request.headers
    assert arrived["x-kept"] == "1"
    assert arrived["host"] == "facilitator.test"
    assert not {"te", "connection", "x-hop"} & set(arrived)


def test_encoding_that_a_transport_left_in_place_is_undone() -> None:
    router = respx.Router()
    router.post(URL + "/settle").respond(
        200, content=gzip.compress(b"plain"), headers={"content-encoding": "gzip"}
    )
    reply = post(router)
    assert reply.body == b"plain"
    assert b"content-encoding" not in [name.lower() for name, _ in reply.headers]


def test_reply_over_the_limit_is_lost_and_not_read_on() -> None:
    taken = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 400

    router = respx.Router()
    router.post(URL + "/settle").mock(return_value=httpx.Response(200, content=endless()))
    with pytest.raises(errors.ReplyLost, match="larger than 1000"):
        post(router)
    assert len(taken) == 3


def test_query_of_a_read_is_passed_raw() -> None:
    router = respx.Router()
    route = router.get(url__startswith=URL).respond(200)
    asyncio.run(over(router).get("/discovery", [], timeout_s=5, query=b"a=1%202&b=%2F&a=2"))
    assert route.calls.last.request.url.raw_path == b"/platform/v2/x402/discovery?a=1%202&b=%2F&a=2"


@pytest.mark.parametrize(
    "path", ["/../admin", "/a/..", "/%2e%2E/admin", "/a\\..\\b", "/a?b", "/a#b", "/\x00"]
)
def test_path_that_would_leave_the_facilitators_url_is_not_sent(path: str) -> None:
    router = respx.Router(assert_all_called=False)
    route = router.route().respond(200)
    with pytest.raises(errors.NotSent):
        asyncio.run(over(router).get(path, [], timeout_s=5))
    assert not route.called


def test_many_paths_fill_no_memory() -> None:
    router = respx.Router()
    router.route().respond(200)
    facilitator = over(router)

    async def run() -> None:
        for number in range(MAX_KNOWN_URLS * 2):
            await facilitator.get(f"/{number}", [], timeout_s=5)

    asyncio.run(run())
    assert len(facilitator._urls) == MAX_KNOWN_URLS


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (httpx.ConnectError, errors.NotSent),
        (httpx.ConnectTimeout, errors.NotSent),
        (httpx.ReadError, errors.ReplyLost),
        (httpx.ReadTimeout, errors.ReplyLost),
        (httpx.RemoteProtocolError, errors.ReplyLost),
        (httpx.WriteError, errors.ReplyLost),
        (RuntimeError, errors.ReplyLost),
    ],
)
def test_what_the_transport_raises_is_translated_with_its_cause(
    raised: type[Exception], meant: type[errors.GuardianError]
) -> None:
    router = respx.Router()
    router.post(URL + "/settle").mock(side_effect=raised("why"))
    with pytest.raises(meant, match="why") as caught:
        post(router)
    assert isinstance(caught.value.__cause__, raised)


def test_body_that_breaks_is_a_lost_reply_of_one_request() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"{"
        raise httpx.ReadError("broken")

    router = respx.Router()
    route = router.post(URL + "/settle").mock(return_value=httpx.Response(200, content=broken()))
    with pytest.raises(errors.ReplyLost):
        post(router)
    assert route.call_count == 1


async def collect(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


def test_stream_passes_bodies_on_in_both_directions() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 201 Created\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.say(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")

    async def parts() -> AsyncIterator[bytes]:
        yield b"first,"
        yield b"second"

    async def run() -> None:
        async with serving(script) as server:
            facilitator = Facilitator("main", server.url)
            reply = await facilitator.stream(
                "PUT", "/any/where", b"q=1", [(b"content-length", b"12")], parts(), timeout_s=5
            )
            assert (reply.status, reply.headers) == (201, [(b"x-a", b"1")])
            assert await collect(reply.body) == b"onetwo"
            await reply.aclose()
            await facilitator.close()
        head, body = server.requests[0].split(b"\r\n\r\n", 1)
        assert head.startswith(b"PUT /any/where?q=1 HTTP/1.1\r\n")
        assert b"content-length: 12" in head.lower()
        assert b"transfer-encoding" not in head.lower()
        assert body == b"first,second"

    asyncio.run(run())


def test_stream_of_unknown_length_goes_in_chunks() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"

    async def run() -> None:
        async with serving(script) as server:
            facilitator = Facilitator("main", server.url)
            reply = await facilitator.stream("POST", "/x", b"", [], parts(), timeout_s=5)
            assert await collect(reply.body) == b"ok"
            await reply.aclose()
            await facilitator.close()
        assert server.requests[0].endswith(b"\r\n\r\n5\r\nfirst\r\n0\r\n\r\n")

    asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_stream_without_a_body_sends_none(method: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def run() -> None:
        async with serving(script) as server:
            facilitator = Facilitator("main", server.url)
            reply = await facilitator.stream(method, "/", b"", [], None, timeout_s=5)
            assert (reply.status, await collect(reply.body)) == (204, b"")
            await reply.aclose()
            await facilitator.close()
        assert server.requests[0].startswith(method.encode() + b" / ")
        assert b"transfer-encoding" not in server.requests[0].lower()

    asyncio.run(run())


def test_stream_that_breaks_or_falls_silent_is_a_lost_reply() -> None:
    async def breaks(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    async def silent(peer: Peer) -> None:
        await breaks(peer)
        await peer.reader.read()

    async def run() -> None:
        for script in (breaks, silent):
            async with serving(script) as server:
                facilitator = Facilitator("main", server.url)
                reply = await facilitator.stream("GET", "/", b"", [], None, timeout_s=0.5)
                with pytest.raises(errors.ReplyLost):
                    await collect(reply.body)
                await reply.aclose()
                await facilitator.close()

    asyncio.run(run())


def test_stream_that_is_left_early_drops_its_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nhalf")
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            facilitator = Facilitator("main", server.url)
            reply = await facilitator.stream("GET", "/", b"", [], None, timeout_s=5)
            await anext(reply.body)
            await reply.aclose()
            await asyncio.wait_for(server.gone.wait(), 5)
            await facilitator.close()

    asyncio.run(run())
