"""Replies through the agent plane: real sockets on both sides, every byte looked at."""

import asyncio
import gzip

import pytest

from tests.edge.agent_stage import OK, Asked, Stage, head, play, says, settled


class TestReplies:
    def test_status_headers_and_bytes_come_down_as_they_came(self) -> None:
        body = gzip.compress(b"packed")
        lines = (b"Content-Encoding: gzip", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b'ETag: "x"')
        lines += (b"Date: Mon, 01 Jan 2001 00:00:00 GMT", b"Server: theirs", b"Content-Range: bytes 0-1/9")

        async def script(stage: Stage) -> None:
            length = b"Content-Length: %d" % len(body)
            stage.upstream.script = says(head(b"206 Partial Content", *lines, length) + body)
            answer = await stage.ask(b"/weather/x", b"Range: bytes=0-1")
            assert (answer.status, answer.body) == (206, body)
            wanted = [tuple(line.split(b": ", 1)) for line in (*lines, length)]
            assert answer.headers == [(name.lower(), value) for name, value in wanted]
            assert stage.upstream.requests[0].all(b"range") == [b"bytes=0-1"]

        play(script)

    def test_hop_by_hop_headers_stay_at_the_upstream(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.script = says(
                head(
                    b"200 OK",
                    *(b"Connection: X-Inner, keep-alive", b"X-Inner: 1", b"Keep-Alive: timeout=5"),
                    *(b"Proxy-Authenticate: Basic", b"X-Outer: 1", b"Content-Length: 0"),
                )
            )
            answer = await stage.ask(b"/weather/x")
            assert {name for name, _ in answer.headers} == {b"date", b"x-outer", b"content-length"}

        play(script)

    def test_the_first_event_arrives_while_the_stream_is_open(self) -> None:
        async def script(stage: Stage) -> None:
            more = asyncio.Event()

            async def events(asked: Asked) -> None:
                await asked.say(
                    head(b"200 OK", b"content-type: text/event-stream", b"transfer-encoding: chunked")
                )
                await asked.say(b"9\r\ndata: 1\n\n\r\n")
                await more.wait()
                await asked.say(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

            stage.upstream.script = events
            client = await stage.client()
            await client.say(b"GET /weather/events HTTP/1.1\r\nhost: g\r\n\r\n")
            assert (await client.head()).all(b"content-type") == [b"text/event-stream"]
            assert await client.chunk() == b"data: 1\n\n"
            more.set()
            assert await client.chunk() == b"data: 2\n\n"

        play(script)

    def test_trailers_are_kept_and_forbidden_ones_dropped(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.script = says(
                head(b"200 OK", b"Trailer: X-Sum, Set-Cookie", b"Transfer-Encoding: chunked")
                + b"2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=1\r\nX-Sum: 8\r\n\r\n"
            )
            client = await stage.client()
            answer = await client.ask(b"/weather/x", b"TE: trailers")
            assert (answer.body, answer.whole) == (b"ok", True)
            assert answer.trailers == [b"x-sum: 7", b"x-sum: 8"]
            assert answer.all(b"trailer") == [b"X-Sum, Set-Cookie"]
            asked = stage.upstream.requests[0]
            assert (asked.all(b"te"), asked.all(b"connection")) == ([b"trailers"], [b"te"])
            assert (await client.ask(b"/weather/y")).body == b"ok"  # and the connection is in step

        play(script)

    @pytest.mark.parametrize(
        ("method", "said"),
        [
            (b"HEAD", head(b"200 OK", b"content-length: 5")),
            (b"HEAD", head(b"200 OK", b"transfer-encoding: chunked")),
            (b"GET", head(b"204 No Content", b"x-a: 1")),
            (b"GET", head(b"304 Not Modified", b"etag: x", b"content-length: 5")),
        ],
    )
    def test_an_answer_without_a_body_ends_with_its_head(self, method: bytes, said: bytes) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.script = says(said)
            client = await stage.client()
            answer = await client.ask(b"/weather/x", method=method)
            assert answer.whole
            if method == b"HEAD" and b"length" in said:
                assert answer.all(b"content-length") == [b"5"]
            stage.upstream.script = says(OK)
            assert (await client.ask(b"/weather/y")).body == b"ok"
            assert stage.upstream.connections == 1

        play(script)

    def test_a_reply_that_ends_with_its_connection_is_whole(self) -> None:
        async def script(stage: Stage) -> None:
            async def closes(asked: Asked) -> None:
                await asked.say(head(b"200 OK") + b"to the end")
                asked.writer.close()

            stage.upstream.script = closes
            answer = await stage.ask(b"/weather/x")
            assert (answer.body, answer.whole) == (b"to the end", True)

        play(script)

    @pytest.mark.parametrize(
        ("location", "seen"),
        [
            (b"http://{host}/api/new?a=1", b"/weather/new?a=1"),
            (b"http://{host}/api", b"/weather"),
            (b"/api/new", b"/weather/new"),
            (b"/api", b"/weather"),
            (b"/login", b"/login"),
            (b"new", b"new"),
            (b"https://login.example/api/x", b"https://login.example/api/x"),
            (b"http://{host}.evil.example/api/x", b"http://{host}.evil.example/api/x"),
            (b"http://{host}/apis", b"http://{host}/apis"),
            (b"//{host}/api/x", b"//{host}/api/x"),
        ],
    )
    def test_redirects_are_not_followed_and_own_ones_named_as_the_caller_knows_them(
        self, location: bytes, seen: bytes
    ) -> None:
        async def script(stage: Stage) -> None:
            host = b"127.0.0.1:%d" % stage.upstream_port
            said = location.replace(b"{host}", host)
            stage.upstream.script = says(head(b"307 Moved", b"location: " + said, b"content-length: 0"))
            answer = await stage.ask(b"/weather/x")
            assert (answer.status, answer.all(b"location")) == (307, [seen.replace(b"{host}", host)])
            assert len(stage.upstream.requests) == 1

        play(script, base="/api")

    @pytest.mark.parametrize(
        ("cookie", "seen"),
        [
            (b"a=1; Path=/", b"a=1; Path=/weather"),
            (b"a=1; path=/api/x; Secure", b"a=1; Path=/weather/x; Secure"),
            (b"a=1; Path=/api", b"a=1; Path=/weather"),
            (b"a=1; Domain=127.0.0.1; HttpOnly", b"a=1; HttpOnly"),
            (b"a=1; Domain=other.example", b"a=1; Domain=other.example"),
            (b"a=Path=/", b"a=Path=/"),
        ],
    )
    def test_cookies_stay_on_their_route(self, cookie: bytes, seen: bytes) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.script = says(head(b"200 OK", b"set-cookie: " + cookie, b"content-length: 0"))
            assert (await stage.ask(b"/weather/x")).all(b"set-cookie") == [seen]

        play(script, base="/api")

    def test_a_slow_reader_slows_the_upstream_down(self) -> None:
        async def script(stage: Stage) -> None:
            size, sent = 60_000_000, 0

            async def pours(asked: Asked) -> None:
                nonlocal sent
                await asked.say(head(b"200 OK", b"content-length: %d" % size))
                while sent < size:
                    await asked.say(b"x" * 100_000)
                    sent += 100_000

            stage.upstream.script = pours
            client = await stage.client()
            await client.say(b"GET /weather/large HTTP/1.1\r\nhost: g\r\n\r\n")
            await client.head()
            assert await settled(lambda: sent) < 30_000_000
            got = 0
            while got < size:
                got += len(await client.reader.read(1 << 20))
            assert got == size

        play(script)
