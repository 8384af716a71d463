"""What goes wrong between a caller and an upstream, and what each of them then sees."""

import asyncio

import pytest

from guardian.edge.agent_plane import LET_GO, AgentPlane
from guardian.edge.callers import Door
from guardian.upstream.client import Upstreams
from guardian.upstream.limits import Limits
from tests.edge.agent_stage import OK, Answer, Asked, Stage, head, play, says

SMALL = Limits(
    connect_s=2, head_s=0.3, idle_s=0.3, request_bytes=1000, reply_bytes=2_000_000, head_bytes=10_000
)


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


class TestMemory:
    def test_a_body_that_was_passed_on_is_held_no_longer(self) -> None:
        gone: list[int] = []

        async def script(stage: Stage) -> None:
            agents = AgentPlane(stage.parts, Upstreams(), Door({}))
            messages = [
                {"type": "http.request", "body": b"x" * size, "more_body": size != 30}
                for size in (10, 20, 30)
            ]

            async def receive() -> dict[str, object]:
                if messages:
                    return messages.pop(0)
                await asyncio.Event().wait()
                raise AssertionError

            async def send(message: object) -> None:
                pass

            scope = {
                "type": "http",
                "method": "PUT",
                "path": "/weather/x",
                "query_string": b"",
                "headers": [(b"content-length", b"60")],
                "extensions": {LET_GO: gone.append},
            }
            await agents(scope, receive, send)
            assert stage.upstream.requests[0].body == b"x" * 60

        play(script)
        assert sum(gone) == 60


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
