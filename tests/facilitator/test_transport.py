"""What failures prove, against real sockets that misbehave: on kept connections, and on the transport."""

import asyncio
import gzip
import inspect
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from crooked_sockets import OK, Peer, Script, serving

from guardian import errors
from guardian.facilitator import client
from guardian.facilitator import transport as room
from guardian.facilitator.client import Facilitator, Reply
from guardian.facilitator.transport import NOT_SENT, default_transport, failure

BODY = b'{"x402Version":2}' * 80
JSON = [(b"content-type", b"application/json")]


class Way:
    """How the facilitators of a test send: both ways must prove the same."""

    over_transport = False


@pytest.fixture(autouse=True, params=["connections", "transport"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Way, "over_transport", request.param == "transport")


def facilitator_at(url: str) -> Facilitator:
    return Facilitator("main", url, transport=default_transport() if Way.over_transport else None)


async def settle(url: str, *, timeout_s: float = 5.0, body: bytes = BODY) -> Reply:
    facilitator = facilitator_at(url)
    try:
        return await facilitator.post("/settle", JSON, body, timeout_s=timeout_s)
    finally:
        await facilitator.close()


async def closes_unread(peer: Peer) -> None:
    peer.writer.close()


async def resets_unread(peer: Peer) -> None:
    peer.reset()


async def resets_in_the_middle(peer: Peer) -> None:
    await peer.reader.read(10)
    peer.reset()


async def reads_then_closes(peer: Peer) -> None:
    await peer.hear()


async def reads_then_resets(peer: Peer) -> None:
    await peer.hear()
    peer.reset()


async def sends_half_a_head(peer: Peer) -> None:
    await peer.hear()
    await peer.say(b"HTTP/1.1 200 OK\r\nConte")


async def sends_half_a_body(peer: Peer) -> None:
    await peer.hear()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")


async def sends_half_a_chunk(peer: Peer) -> None:
    await peer.hear()
    await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")


async def sends_garbage(peer: Peer) -> None:
    await peer.hear()
    await peer.say(b"\x00\x01 what is this\r\n\r\n")


async def sends_broken_gzip(peer: Peer) -> None:
    await peer.hear()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")


AFTER_THE_FIRST_BYTE: list[Script] = [
    reads_then_closes,
    reads_then_resets,
    sends_half_a_head,
    sends_half_a_body,
    sends_half_a_chunk,
    sends_garbage,
    sends_broken_gzip,
]


@pytest.mark.parametrize("script", AFTER_THE_FIRST_BYTE, ids=lambda script: script.__name__)
def test_failure_after_the_request_was_read_is_a_lost_reply_and_never_a_second_request(
    script: Script,
) -> None:
    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost):
                await settle(server.url)
            assert len(server.requests) == 1
            assert server.connections == 1

    asyncio.run(run())


def test_connection_that_is_reset_at_once_is_no_answer() -> None:
    async def run() -> None:
        async with serving(resets_unread) as server:
            # The reset may be there before the connection is: then nothing can have been written.
            with pytest.raises((errors.ReplyLost, errors.NotSent)):
                await settle(server.url, body=b"x" * 1_000_000)
            assert server.connections == 1

    asyncio.run(run())


@pytest.mark.parametrize("script", [closes_unread, resets_in_the_middle])
def test_connection_that_breaks_once_open_is_a_lost_reply(script: Script) -> None:
    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost):
                await settle(server.url, body=b"x" * 1_000_000)
            assert server.connections == 1

    asyncio.run(run())


@pytest.mark.parametrize("ending", ["fin", "rst", "rst in the middle"])
def test_kept_connection_that_breaks_on_the_second_request_gets_it_once(ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)
        if ending == "rst in the middle":
            peer.server.requests.append(await peer.reader.readexactly(10))
        else:
            await peer.hear()
        if ending != "fin":
            peer.reset()

    async def run() -> None:
        async with serving(script) as server:
            facilitator = facilitator_at(server.url)
            await facilitator.post("/settle", JSON, BODY, timeout_s=5)
            with pytest.raises(errors.ReplyLost):
                await facilitator.post("/settle", JSON, BODY, timeout_s=5)
            await facilitator.close()
            assert len(server.requests) == 2
            assert server.connections == 1

    asyncio.run(run())


def test_connection_closed_while_idle_is_replaced_and_each_request_arrives_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)

    async def run() -> None:
        async with serving(script) as server:
            facilitator = facilitator_at(server.url)
            lost = 0
            for _ in range(200):
                try:
                    await facilitator.post("/settle", JSON, BODY, timeout_s=5)
                except errors.ReplyLost:
                    lost += 1
            await facilitator.close()
            assert len(server.requests) <= 200
            assert lost + len(server.requests) >= 200

    asyncio.run(run())


def test_silence_is_a_lost_reply_at_the_deadline_and_the_request_is_dropped() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost, match=r"within 0\.1 s"):
                await settle(server.url, timeout_s=0.1)
            await asyncio.wait_for(server.gone.wait(), 5)

    asyncio.run(run())


def test_body_that_trickles_is_cut_at_the_same_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost, match=r"within 0\.1 s"):
                await settle(server.url, timeout_s=0.1)

    asyncio.run(run())


def test_request_whose_caller_was_cancelled_is_dropped_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "DROP_MARGIN_S", 0.0)

    async def script(peer: Peer) -> None:
        await peer.hear()
        heard.set()
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            task = asyncio.create_task(settle(server.url, timeout_s=0.3))
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.gone.wait(), 5)
            assert len(server.requests) == 1

    heard = asyncio.Event()
    asyncio.run(run())


@pytest.mark.parametrize("late", ["head", "body"])
def test_deadline_of_the_transport_itself_is_a_lost_reply_too(
    monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr(client, "DROP_MARGIN_S", -4.9)
    monkeypatch.setattr(Way, "over_transport", True)

    async def script(peer: Peer) -> None:
        await peer.hear()
        if late == "body":
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost, match="ReadTimeout"):
                await settle(server.url, timeout_s=5.0)

    asyncio.run(run())


def test_refused_connection_and_unknown_host_are_not_sent() -> None:
    async def run() -> None:
        async with serving(closes_unread) as server:
            url = server.url
        for dead in (url, "http://no-such-host.invalid"):
            with pytest.raises(errors.NotSent):
                await settle(dead)

    asyncio.run(run())


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "nonsense"])
def test_url_that_is_not_http_is_not_sent(url: str) -> None:
    with pytest.raises(errors.NotSent):
        asyncio.run(settle(url))


def test_certificate_that_nobody_vouches_for_is_not_sent(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, *files, "-days", "1", *names], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    async def run() -> None:
        async with serving(reads_then_closes, ssl=context) as server:
            with pytest.raises(errors.NotSent, match="certificate"):
                await settle(f"https://localhost:{server.port}")
            assert server.requests == []

    asyncio.run(run())


def test_tls_handshake_that_never_ends_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONNECT_TIMEOUT_S", 0.1)

    async def script(peer: Peer) -> None:
        await peer.reader.read()
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.NotSent, match="ConnectTimeout"):
                await settle(f"https://localhost:{server.port}")

    asyncio.run(run())


def test_full_pool_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(room, "POOL_TIMEOUT_S", 0.1)

    async def script(peer: Peer) -> None:
        await peer.hear()
        heard.set()
        await peer.reader.read()

    async def run() -> None:
        async with serving(script) as server:
            facilitator = facilitator_at(server.url)
            first = asyncio.create_task(facilitator.post("/settle", JSON, BODY, timeout_s=5))
            await heard.wait()
            with pytest.raises(errors.NotSent, match="PoolTimeout"):
                await facilitator.post("/settle", JSON, BODY, timeout_s=5)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await facilitator.close()
            assert len(server.requests) == 1

    heard = asyncio.Event()
    asyncio.run(run())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_a_reply_and_is_not_followed(status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status)
        await peer.hear()

    async def run() -> None:
        async with serving(script) as server:
            reply = await settle(server.url)
            assert reply.status == status
            assert (b"location", b"/elsewhere") in reply.headers
            assert len(server.requests) == 1

    asyncio.run(run())


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)

    async def run() -> None:
        async with serving(answers) as server, serving(answers) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            assert (await settle(server.url)).body == b"ok"
            assert proxy.connections == 0

    asyncio.run(run())


def test_compressed_reply_is_handed_out_plain_and_without_its_encoding() -> None:
    packed = gzip.compress(b'{"success":true}')

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-A: 1\r\nX-A: 2\r\n"
            b"Connection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        )

    async def run() -> None:
        async with serving(script) as server:
            reply = await settle(server.url)
            assert reply.body == b'{"success":true}'
            assert reply.headers == [(b"x-a", b"1"), (b"x-a", b"2")]

    asyncio.run(run())


def test_small_gzip_that_unfolds_beyond_the_limit_is_a_lost_reply() -> None:
    packed = gzip.compress(b"0" * 10_000_000)

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        )

    async def run() -> None:
        async with serving(script) as server:
            with pytest.raises(errors.ReplyLost, match="larger"):
                await settle(server.url)

    asyncio.run(run())


def test_reply_with_a_header_that_is_not_text_is_still_a_reply() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 200 OK\r\nX-Odd: caf\xe9\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok")

    async def run() -> None:
        async with serving(script) as server:
            reply = await settle(server.url)
            assert (reply.status, reply.body) == (200, b"ok")
            assert (b"x-a", b"1") in reply.headers

    asyncio.run(run())


def test_request_arrives_with_its_body_bytes_and_repeated_headers() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)

    async def run() -> None:
        sent = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Accept-Encoding", b"identity"), (b"X-Utf", "é".encode())]
        hop = [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"Host", b"evil"), (b"Content-Length", b"7")]
        async with serving(script) as server:
            facilitator = facilitator_at(server.url + "/platform/v2/x402")
            await facilitator.post("/settle", [*sent, *hop], BODY, timeout_s=5)
            await facilitator.close()
        head, body = server.requests[0].split(b"\r\n\r\n", 1)
        assert body == BODY
        assert head.startswith(b"POST /platform/v2/x402/settle HTTP/1.1\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")[1:]]
        for name, value in sent:
            assert name.lower() + b": " + value in lines
        assert b"host: 127.0.0.1:%d" % server.port in lines
        assert not [line for line in lines if line.startswith((b"x-hop", b"connection"))]

    asyncio.run(run())


def test_header_that_http_forbids_is_left_out_instead_of_failing_the_request() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)

    async def run() -> None:
        async with serving(script) as server:
            facilitator = facilitator_at(server.url)
            await facilitator.post("/settle", [(b"X-Bad", b"a\x01b"), (b"X-Good", b"1")], b"", timeout_s=5)
            await facilitator.close()
        assert b"x-good: 1" in server.requests[0].lower()
        assert b"x-bad" not in server.requests[0].lower()

    asyncio.run(run())


def exceptions_of_httpx() -> list[type[Exception]]:
    kinds = [kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)]
    return [
        kind for kind in kinds if not any(other is not kind and issubclass(other, kind) for other in kinds)
    ]


def test_every_exception_of_httpx_is_a_doubt_unless_it_is_on_the_short_list() -> None:
    leaves = exceptions_of_httpx()
    assert {httpx.ReadError, httpx.WriteError, httpx.ReadTimeout, httpx.RemoteProtocolError} <= set(leaves)
    not_sent = {kind for kind in leaves if isinstance(failure(kind.__new__(kind), 1.0), errors.NotSent)}
    assert not_sent == set(NOT_SENT)
    assert not_sent == {
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.UnsupportedProtocol,
    }


@pytest.mark.parametrize("kind", [OSError, ConnectionRefusedError, RuntimeError, TimeoutError, ValueError])
def test_exception_from_elsewhere_is_a_doubt(kind: type[Exception]) -> None:
    assert isinstance(failure(kind("what"), 1.0), errors.ReplyLost)
