"""The agent plane as callers and upstreams see it: real sockets on both sides, every byte looked at."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest

from guardian.upstream.limits import Limits
from tests.edge.agent_stage import OK, Answer, Asked, Stage, request

Script = Callable[[Stage], Awaitable[None]]

SMALL = Limits(
    connect_s=2, head_s=0.3, idle_s=0.3, request_bytes=1000, reply_bytes=2_000_000, head_bytes=10_000
)


def says(data: bytes) -> Callable[[Asked], Awaitable[None]]:
    async def script(asked: Asked) -> None:
        await asked.say(data)

    return script


def head(status: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", b""))


def play(script: Script, **stage: object) -> None:
    Stage(**stage).play(script)  # type: ignore[arg-type]


class TestRequests:
    def test_method_path_query_and_headers_go_up_as_they_came(self) -> None:
        async def script(stage: Stage) -> None:
            odd = b"/weather/a%2Fb//c;d=1/%7e?q=%20+x&&y=?/"
            lines = (b"X-One: 1", b"X-Two:  a , b", b"X-One: 2", b"Accept-Encoding: br;q=1.0", b"X-\xc3: n")
            await stage.ask(odd, *lines[:4], method=b"PURGE")
            (asked,) = stage.upstream.requests
            assert asked.line == b"PURGE /v1/a%2Fb//c;d=1/%7e?q=%20+x&&y=?/ HTTP/1.1"
            assert asked.all(b"x-one") == [b"1", b"2"]
            assert asked.all(b"x-two") == [b"a , b"]
            assert asked.all(b"accept-encoding") == [b"br;q=1.0"]

        play(script, base="/v1")

    @pytest.mark.parametrize(
        ("base", "asked", "target"),
        [
            ("", b"/weather", b"/"),
            ("", b"/weather/", b"/"),
            ("", b"/weather?a=1", b"/?a=1"),
            ("/api", b"/weather", b"/api"),
            ("/api", b"/weather/", b"/api/"),
            ("/api", b"/weather/./x", b"/api/./x"),
            ("/api", b"/weather/a..b/...", b"/api/a..b/..."),
            ("/api", b"http://evil.example/weather/x", b"/api/x"),
        ],
    )
    def test_the_path_below_the_route_is_a_path_below_the_base(
        self, base: str, asked: bytes, target: bytes
    ) -> None:
        async def script(stage: Stage) -> None:
            assert (await stage.ask(asked)).body == b"ok"
            (request,) = stage.upstream.requests
            assert request.target == target
            assert request.all(b"host") == [b"127.0.0.1:%d" % stage.upstream_port]

        play(script, base=base)

    def test_no_path_leaves_the_base(self) -> None:
        async def script(stage: Stage) -> None:
            for path in (
                b"/..", b"/../x", b"/%2e%2e/x", b"/%2E./x", b"/.%2e", b"/a/../../x", b"/..%2fx", b"/..%5cx",
                b"/..\\x", b"/%252e%252e/x", b"/%25252e%25252e/x", b"/..;/x", b"/..;a=b/x", b"/%2e%2e;/x",
                b"/%c0%ae%c0%ae/x", b"/%252525252e%252525252e/x", b"/..%09/x",
            ):  # fmt: skip
                answer = await stage.ask(b"/weather" + path)
                assert (answer.status, path) == (400, path)
            assert stage.upstream.requests == []

        play(script, base="/api")

    def test_what_speaks_of_one_connection_stays_there(self) -> None:
        async def script(stage: Stage) -> None:
            await stage.ask(
                b"/weather/x",
                *(b"Connection: X-Secret, keep-alive", b"X-Secret: 1", b"Keep-Alive: timeout=5", b"TE: gzip"),
                *(b"Proxy-Authorization: Basic x", b"Proxy-Connection: close", b"Upgrade: h2c", b"X-Kept: 1"),
            )
            (asked,) = stage.upstream.requests
            names = {name for name, _ in asked.headers}
            assert b"x-kept" in names
            assert names.isdisjoint(
                {b"connection", b"x-secret", b"keep-alive", b"te", b"proxy-authorization", b"upgrade"}
            )
            assert b"proxy-connection" not in names

        play(script)

    def test_the_caller_is_added_to_what_was_forwarded_and_its_own_word_replaced(self) -> None:
        async def script(stage: Stage) -> None:
            await stage.ask(
                b"/weather/x",
                *(b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2", b"X-Forwarded-Proto: https"),
                *(b"X-Forwarded-Host: evil", b"X-Forwarded-Prefix: /evil", b"Forwarded: for=1.1.1.1"),
            )
            (asked,) = stage.upstream.requests
            assert asked.all(b"x-forwarded-for") == [b"1.1.1.1, 2.2.2.2, 127.0.0.1"]
            assert asked.all(b"x-forwarded-proto") == [b"http"]
            assert asked.all(b"x-forwarded-host") == [b"guardian:8402"]
            assert asked.all(b"x-forwarded-prefix") == [b"/weather"]
            own = b'for=127.0.0.1;host="guardian:8402";proto=http'
            assert asked.all(b"forwarded") == [b"for=1.1.1.1, " + own]

        play(script)

    def test_a_request_that_runs_in_a_circle_is_stopped(self) -> None:
        async def script(stage: Stage) -> None:
            circle = f"http://127.0.0.1:{stage.port}/circle"
            generation = stage.parts.generation
            generation.policy = stage.policy(circle=circle)
            answer = await stage.ask(b"/circle/x")
            assert answer.status == 508

        play(script)

    @pytest.mark.parametrize("chunked", [True, False])
    def test_a_body_goes_up_while_it_comes(self, chunked: bool) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False

            async def script(asked: Asked) -> None:
                await stage.upstream_read.wait()
                await asked.say(OK)

            stage.upstream_read = asyncio.Event()  # type: ignore[attr-defined]
            stage.upstream.script = script
            client = await stage.client()
            framing = b"transfer-encoding: chunked" if chunked else b"content-length: 10"
            await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\n" + framing + b"\r\n\r\n")
            asked = await stage.upstream.arrived.get()
            assert asked.all(b"transfer-encoding") == ([b"chunked"] if chunked else [])
            assert asked.all(b"content-length") == ([] if chunked else [b"10"])
            for part in (b"first", b"again"):
                await client.say(b"5\r\n" + part + b"\r\n" if chunked else part)
                got = await asked.chunk() if chunked else await asked.reader.readexactly(5)
                assert got == part  # the client has not sent more
            if chunked:
                await client.say(b"0\r\n\r\n")
                assert await asked.reader.readexactly(5) == b"0\r\n\r\n"
            stage.upstream_read.set()  # type: ignore[attr-defined]
            assert (await client.hear()).body == b"ok"

        play(script)

    def test_an_upload_waits_for_a_slow_upstream(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            reading, size = asyncio.Event(), 30_000_000

            async def slow(asked: Asked) -> None:
                await reading.wait()
                await asked.reader.readexactly(size)
                await asked.say(OK)

            stage.upstream.script = slow
            client = await stage.client()
            await client.say(b"PUT /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % size)
            sending = asyncio.create_task(client.say(b"x" * size))
            await stage.upstream.arrived.get()
            taken = await _settled(lambda: size - client.writer.transport.get_write_buffer_size())
            assert taken < 20_000_000  # what the sockets hold between them, and no more
            reading.set()
            await sending
            assert (await client.hear()).status == 200

        play(script)

    def test_a_caller_that_leaves_amid_its_body_never_makes_it_whole(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            ended = asyncio.Event()

            async def reads(asked: Asked) -> None:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await asked.reader.readuntil(b"0\r\n\r\n")
                ended.set()

            stage.upstream.script = reads
            client = await stage.client()
            await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
            await client.say(b"3\r\nabc\r\n")
            await stage.upstream.arrived.get()
            client.leave()
            await ended.wait()

        play(script)

    def test_a_body_that_was_refused_beforehand_is_not_fetched(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            stage.upstream.script = says(head(b"413 Too Large", b"content-length: 0"))
            answer = await stage.ask(b"/weather/x", b"Expect: 100-continue", b"content-length: 9")
            assert answer.status == 413
            (asked,) = stage.upstream.requests
            assert asked.all(b"expect") == [b"100-continue"]

        play(script)

    def test_a_body_that_the_upstream_asks_for_is_fetched(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False

            async def asks(asked: Asked) -> None:
                await asked.say(head(b"100 Continue"))
                asked.body = await asked.reader.readexactly(4)
                await asked.say(OK)

            stage.upstream.script = asks
            client = await stage.client()
            await client.say(
                b"PUT /weather/x HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
            )
            assert (await client.head()).status == 100
            await client.say(b"body")
            assert (await client.hear()).status == 200
            assert stage.upstream.requests[0].body == b"body"

        play(script)

    def test_an_early_answer_to_a_long_body_is_heard(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            stage.upstream.script = says(head(b"402 Payment Required", b"content-length: 0"))
            client = await stage.client()
            await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: 2000000\r\n\r\n")
            assert (await client.hear()).status == 402
            await client.say(b"x" * 2_000_000)
            stage.upstream.script = says(OK)
            assert (await client.ask(b"/weather/y")).body == b"ok"

        play(script)

    def test_websockets_are_refused_clearly(self) -> None:
        async def script(stage: Stage) -> None:
            answer = await stage.ask(b"/weather/x", b"Connection: Upgrade", b"Upgrade: websocket")
            assert (answer.status, answer.all(b"content-type")) == (501, [b"application/problem+json"])
            assert stage.upstream.requests == []

        play(script)

    @pytest.mark.parametrize(
        "attack",
        [
            b"POST /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            b"POST /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            b"POST /weather/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"POST /weather/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            b"GET /weather/x HTTP/1.1\r\nhost: g\r\nx-a: 1\rx-b: 2\r\n\r\n",
            b"GET /weather/x HTTP/1.1\r\nhost: g\r\nx-a: 1\x00\r\n\r\n",
            b"GET /weather/x\x0b HTTP/1.1\r\nhost: g\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\nhost: g\r\n\r\n",
        ],
    )
    def test_a_request_of_two_readings_reaches_nobody(self, attack: bytes) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            await client.say(attack)
            assert (await client.hear()).status in (400, 404)
            assert stage.upstream.requests == []

        play(script)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        async def script(stage: Stage) -> None:
            async def echoes(asked: Asked) -> None:
                await asked.say(head(b"200 OK", b"content-length: 10") + asked.target.ljust(10))

            stage.upstream.script = echoes
            client = await stage.client()
            await client.say(b"".join(request(b"/weather/%d" % n) for n in range(5)))
            assert [(await client.hear()).body.strip() for _ in range(5)] == [b"/%d" % n for n in range(5)]

        play(script)

    def test_a_body_of_chunks_cannot_hide_a_second_request(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False

            async def reads(asked: Asked) -> None:
                asked.body = await asked.chunk()
                assert await asked.reader.readexactly(5) == b"0\r\n\r\n"
                await asked.say(OK)

            stage.upstream.script = reads
            hidden = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
            client = await stage.client()
            await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\nTransfer-Encoding: ChUnKeD\r\n\r\n")
            await client.say(b"%x;ext=1\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden))
            assert (await client.hear()).status == 200
            (asked,) = stage.upstream.requests
            assert asked.body == hidden

        play(script)


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
            assert await _settled(lambda: sent) < 30_000_000
            got = 0
            while got < size:
                got += len(await client.reader.read(1 << 20))
            assert got == size

        play(script)


class TestFailures:
    def test_nothing_is_known_of_a_route_that_is_not_there(self) -> None:
        async def script(stage: Stage) -> None:
            answer = await stage.ask(b"/weathers/x")
            assert (answer.status, answer.all(b"content-type")) == (404, [b"application/problem+json"])
            assert b"127.0.0.1" not in answer.body
            assert b"weather" not in answer.body

        play(script)

    def test_an_upstream_that_is_not_there_was_sent_nothing(self) -> None:
        async def script(stage: Stage) -> None:
            _is_problem(await stage.ask(b"/dead/x"), 502, "upstream-not-reached", sent=False)

        play(script)

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nconte",
            b"junk\r\n\r\n",
            head(b"200 OK", b"content-length: 5", b"content-length: 6"),
            head(b"200 OK", b"content-length: 5", b"transfer-encoding: chunked"),
            head(b"200 OK", b"transfer-encoding: gzip, chunked"),
            head(b"200 OK", b"transfer-encoding: identity"),
            head(b"200 OK", b"x-a: 1\r\n folded", b"content-length: 0"),
            head(b"101 Switching Protocols", b"connection: upgrade", b"upgrade: x"),
            head(b"200 OK", b"x-a: " + b"a" * 20_000, b"content-length: 0"),
            head(b"200 OK", b"content-length: 3000000"),
        ],
    )
    def test_a_reply_that_cannot_be_trusted_was_lost(self, said: bytes) -> None:
        async def script(stage: Stage) -> None:
            async def breaks(asked: Asked) -> None:
                await asked.say(said)
                asked.writer.close()

            stage.upstream.script = breaks
            answer = await stage.ask(b"/weather/x", method=b"POST", body=b"x")
            _is_problem(answer, 502, "upstream-reply-lost", sent=True)

        play(script, limits=SMALL)

    def test_a_reply_that_does_not_come_in_time_was_lost(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.script = Asked.gone
            _is_problem(await stage.ask(b"/weather/x"), 504, "upstream-reply-lost", sent=True)

        play(script, limits=SMALL)

    @pytest.mark.parametrize(
        "said",
        [
            head(b"200 OK", b"content-length: 100") + b"half",
            head(b"200 OK", b"transfer-encoding: chunked") + b"4\r\nhalf\r\n",
        ],
    )
    @pytest.mark.parametrize("how", ["closed", "reset", "silent"])
    def test_a_reply_that_breaks_off_is_seen_to_break_off(self, said: bytes, how: str) -> None:
        async def script(stage: Stage) -> None:
            async def breaks(asked: Asked) -> None:
                await asked.say(said)
                await heard.wait()
                if how == "reset":
                    asked.writer.transport.abort()
                elif how == "closed":
                    asked.writer.close()
                else:
                    await asked.gone()

            heard = asyncio.Event()
            stage.upstream.script = breaks
            client = await stage.client()
            await client.say(b"GET /weather/x HTTP/1.1\r\nhost: g\r\n\r\n")
            hearing = asyncio.create_task(client.hear())
            await stage.upstream.arrived.get()
            heard.set()
            answer = await hearing
            assert (answer.status, answer.whole) == (200, False)
            assert await client.reader.read() == b""

        play(script, limits=SMALL)

    def test_a_caller_that_leaves_ends_the_stream_at_the_upstream(self) -> None:
        async def script(stage: Stage) -> None:
            ended = asyncio.Event()

            async def events(asked: Asked) -> None:
                await asked.say(head(b"200 OK", b"transfer-encoding: chunked") + b"1\r\nx\r\n")
                await asked.gone()
                ended.set()

            stage.upstream.script = events
            client = await stage.client()
            await client.say(b"GET /weather/x HTTP/1.1\r\nhost: g\r\n\r\n")
            await client.head()
            client.leave()
            await ended.wait()

        play(script)

    def test_a_caller_that_leaves_before_the_reply_ends_the_request(self) -> None:
        async def script(stage: Stage) -> None:
            ended = asyncio.Event()

            async def waits(asked: Asked) -> None:
                await asked.gone()
                ended.set()

            client = await stage.client()
            stage.upstream.script = waits
            await client.say(b"GET /weather/x HTTP/1.1\r\nhost: g\r\n\r\n")
            await stage.upstream.arrived.get()
            client.leave()
            await ended.wait()

        play(script)

    def test_a_body_over_the_limit_is_refused(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            stage.upstream.script = Asked.gone
            answer = await stage.ask(b"/weather/x", method=b"POST", body=b"x" * 1001)
            assert answer.status == 413

        play(script, limits=SMALL)

    def test_a_body_that_stalls_is_given_up(self) -> None:
        async def script(stage: Stage) -> None:
            stage.upstream.whole = False
            stage.upstream.script = Asked.gone
            answer = await stage.ask(b"/weather/x", b"content-length: 9", method=b"POST")
            assert answer.status == 408

        play(script, limits=SMALL)

    def test_a_second_reply_to_one_request_reaches_nobody(self) -> None:
        async def script(stage: Stage) -> None:
            poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
            stage.upstream.script = says(OK + poison)
            client = await stage.client()
            assert (await client.ask(b"/weather/x")).body == b"ok"
            stage.upstream.script = says(OK)
            assert (await client.ask(b"/weather/y")).body == b"ok"
            assert stage.upstream.connections == 2

        play(script)


class TestConnections:
    def test_connections_are_kept(self) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            for _ in range(5):
                assert (await client.ask(b"/weather/x", method=b"POST", body=b"abc")).body == b"ok"
            assert stage.upstream.connections == 1
            assert [asked.body for asked in stage.upstream.requests] == [b"abc"] * 5

        play(script)

    @pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"POST", 502)])
    def test_only_a_safe_request_goes_again_where_the_kept_connection_was_stale(
        self, method: bytes, status: int
    ) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            await client.ask(b"/weather/x")

            async def breaks_once(asked: Asked) -> None:
                if stage.upstream.connections == 1:
                    asked.writer.transport.abort()
                else:
                    await asked.say(OK)

            stage.upstream.script = breaks_once
            assert (await client.ask(b"/weather/x", method=method)).status == status
            assert len(stage.upstream.requests) == (3 if status == 200 else 2)

        play(script)

    def test_a_payment_goes_over_a_connection_of_its_own(self) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            await client.ask(b"/weather/x")
            await client.ask(b"/weather/x", b"PAYMENT-SIGNATURE: e30=")
            assert stage.upstream.connections == 2
            assert stage.upstream.requests[1].all(b"payment-signature") == [b"e30="]

        play(script)


def _is_problem(answer: Answer, status: int, kind: str, *, sent: bool) -> None:
    assert (answer.status, answer.all(b"content-type")) == (status, [b"application/problem+json"])
    assert answer.json["type"] == "urn:payment-guardian:" + kind
    assert answer.json["sent"] is sent
    assert "127.0.0.1" not in str(answer.json)


async def _settled(count: Callable[[], int]) -> int:
    """A number, once it has stopped growing."""
    before, still = -1, 0
    while still < 5:
        await asyncio.sleep(0.03)
        now = count()
        still = still + 1 if now == before and now > 0 else 0
        before = now
    return before
