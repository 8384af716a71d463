"""Requests through the agent plane: real sockets on both sides, every byte looked at."""

import asyncio

import pytest

from guardian.flow.parts import Generation
from guardian.policy.units import Pace
from tests.edge.agent_stage import OK, Asked, Stage, head, play, request, says, settled


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
            reading, size = asyncio.Event(), 150_000_000

            async def slow(asked: Asked) -> None:
                await reading.wait()
                await asked.reader.readexactly(size)
                await asked.say(OK)

            stage.upstream.script = slow
            client = await stage.client()
            await client.say(b"PUT /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % size)
            sending = asyncio.create_task(client.say(b"x" * size))
            await stage.upstream.arrived.get()
            taken = await settled(lambda: size - client.writer.transport.get_write_buffer_size())
            assert taken < 100_000_000  # what four sockets hold between them, and no more
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

    def test_a_transfer_coding_that_is_not_undone_here_is_refused(self) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            await client.say(
                b"POST /weather/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            )
            assert (await client.hear()).status == 501
            assert stage.upstream.requests == []

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


class TestDoor:
    @pytest.mark.parametrize("shown", [(), (b"X-Guardian-Key: wrong-wrong-wrong-wrong",)])
    def test_an_unknown_caller_reaches_no_upstream(
        self, shown: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def script(stage: Stage) -> None:
            answer = await stage.ask(b"/weather/x", *shown)
            assert (answer.status, answer.all(b"content-type")) == (401, [b"application/problem+json"])
            assert (await stage.ask(b"/nowhere/x")).status == 401
            assert stage.upstream.requests == []

        _keyed(monkeypatch).play(script)

    def test_the_guardians_key_stays_with_the_guardian(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def script(stage: Stage) -> None:
            line = b"X-Guardian-Key: " + KEY.encode()
            assert (await stage.ask(b"/weather/x", line, b"Authorization: Bearer a")).body == b"ok"
            (asked,) = stage.upstream.requests
            assert KEY.encode() not in asked.head
            assert asked.all(b"authorization") == [b"Bearer a"]

        _keyed(monkeypatch).play(script)

    def test_a_caller_over_its_limit_is_told_when_to_come_again(self) -> None:
        async def script(stage: Stage) -> None:
            client = await stage.client()
            assert (await client.ask(b"/weather/x")).status == 200
            answer = await client.ask(b"/weather/x")
            assert (answer.status, answer.all(b"retry-after")) == (429, [b"60"])

        stage = Stage()
        stage.callers = {"pace": Pace(1, 60.0)}
        stage.play(script)


KEY = "0123456789abcdef0123"


def _keyed(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("KEY_OF_ONE", KEY)
    stage = Stage()
    stage.callers = {
        "require": "key",
        "header": "x-guardian-key",
        "keys": [{"name": "one", "key": {"env": "KEY_OF_ONE"}}],
    }
    return stage


class TestRoutes:
    def test_a_new_policy_has_other_routes_for_what_begins_then(self) -> None:
        async def script(stage: Stage) -> None:
            url = f"http://127.0.0.1:{stage.upstream_port}/new"
            old = stage.parts.generation
            client = await stage.client()
            assert (await client.ask(b"/other/x")).status == 404
            stage.parts.generation = Generation(stage.policy(other=url), old.facilitators, number=2)
            assert (await client.ask(b"/other/x")).body == b"ok"
            assert stage.upstream.requests[0].target == b"/new/x"
            stage.parts.generation = Generation(stage.policy(), old.facilitators, number=3)
            assert (await client.ask(b"/other/x")).status == 404

        play(script)

    @pytest.mark.parametrize("name", [b"/WEATHER/x", b"/%77eather/x", b"//weather/x", b"/weathe/x", b"/"])
    def test_a_route_is_named_exactly(self, name: bytes) -> None:
        async def script(stage: Stage) -> None:
            assert (await stage.ask(name)).status == 404
            assert stage.upstream.requests == []

        play(script)

    def test_a_websocket_of_a_host_application_is_closed(self) -> None:
        sent: list[object] = []

        async def script(stage: Stage) -> None:
            async def receive() -> dict[str, object]:
                return {"type": "websocket.connect"}

            async def send(message: object) -> None:
                sent.append(message)

            await stage.app({"type": "websocket", "path": "/weather/x"}, receive, send)  # type: ignore[arg-type]

        play(script)
        assert sent == [{"type": "websocket.close", "code": 1003}]

    def test_what_the_guardian_answers_itself_is_no_route(self) -> None:
        async def script(stage: Stage) -> None:
            answer = await stage.ask(b"/payments/pay_1")
            assert (answer.status, answer.json["error"]) == (404, "no such payment")

        play(script)
