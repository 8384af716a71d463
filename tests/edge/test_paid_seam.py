"""What the agent plane hands to the flow of payments, and what it does with the flow's answer."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from guardian.edge import caller
from guardian.edge.agent_plane import MAX_DEMAND_BYTES, MAX_PAID_BODY_BYTES
from guardian.errors import NotSent, ReplyLost
from guardian.flow.paid import PaidExchange
from guardian.upstream.reply import whole_reply
from tests.edge.agent_stage import OK, Asked, Stage, request

PAYS = b"X-PAYMENT: e30="
DEMAND = b'HTTP/1.1 402 Payment Required\r\nx-a: 1\r\ncontent-length: 13\r\n\r\n{"accepts":7}'


class Flow:
    """Does what a test says, and remembers what it was handed."""

    def __init__(self, act: Callable[[PaidExchange], Awaitable[None]]) -> None:
        self.act = act
        self.handed: list[PaidExchange] = []

    async def handle(self, exchange: PaidExchange) -> None:
        self.handed.append(exchange)
        await self.act(exchange)


async def passes(exchange: PaidExchange) -> None:
    await exchange.answer(exchange.demand or await exchange.ask())


def play(flow: Flow, script: Callable[[Stage], Awaitable[None]]) -> None:
    Stage(paid=flow, base="/v1").play(script)


def test_an_unpaid_request_that_is_not_asked_to_pay_never_meets_the_flow() -> None:
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        assert (await stage.ask(b"/weather/x")).body == b"ok"
        assert flow.handed == []

    play(flow, script)


def test_a_payment_meets_the_flow_before_anything_is_sent() -> None:
    async def looks(exchange: PaidExchange) -> None:
        assert requests == []
        await passes(exchange)

    flow, requests = Flow(looks), []

    async def script(stage: Stage) -> None:
        stage.upstream.requests = requests
        answer = await stage.ask(b"/weather/x?a=1", PAYS, b"X-A: 1", method=b"POST", body=b"order")
        assert answer.body == b"ok"
        (exchange,) = flow.handed
        assert (exchange.route, exchange.method, exchange.body) == ("weather", "POST", b"order")
        assert exchange.url == f"http://127.0.0.1:{stage.upstream_port}/v1/x?a=1"
        assert list(exchange.headers) == [(b"x-payment", b"e30="), (b"x-a", b"1")]
        assert exchange.demand is None
        assert [(asked.target, asked.body) for asked in stage.upstream.requests] == [(b"/v1/x?a=1", b"order")]

    play(flow, script)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_402_meets_the_flow_with_the_request_that_met_it(chunked: bool) -> None:
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        async def demands(asked: Asked) -> None:
            if chunked:
                await asked.reader.readuntil(b"0\r\n\r\n")
            await asked.say(DEMAND)

        stage.upstream.script = demands
        if chunked:
            lines, body = (b"Transfer-Encoding: chunked",), b""
            client = await stage.client()
            await client.say(
                b"POST /weather/x HTTP/1.1\r\nhost: g\r\n" + lines[0] + b"\r\n\r\n5\r\norder\r\n0\r\n\r\n"
            )
            answer = await client.hear()
        else:
            body = b"order"
            answer = await stage.ask(b"/weather/x", method=b"POST", body=body)
        assert (answer.status, answer.body, answer.all(b"x-a")) == (402, b'{"accepts":7}', [b"1"])
        (exchange,) = flow.handed
        assert exchange.body == b"order"
        assert exchange.demand is not None

    play(flow, script)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_402_that_came_before_the_body_waits_for_it(chunked: bool) -> None:
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        async def demands(asked: Asked) -> None:
            await asked.say(DEMAND)
            answered.set()

        answered = asyncio.Event()
        stage.upstream.whole = False
        stage.upstream.script = demands
        client = await stage.client()
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: 10"
        await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\n" + framing + b"\r\n\r\n")
        await answered.wait()
        for part in (b"first", b"again"):
            await client.say(b"5\r\n" + part + b"\r\n" if chunked else part)
        await client.say(b"0\r\n\r\n" if chunked else b"")
        assert (await client.hear()).status == 402
        assert flow.handed[0].body == b"firstagain"

    play(flow, script)


def test_a_402_that_takes_its_time_meets_the_flow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        caller, "LISTEN_AFTER_S", 0.0
    )  # whether the caller leaves is looked at before it comes
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        async def demands(asked: Asked) -> None:
            head, _, body = DEMAND.partition(b"{")
            await asked.say(head)
            await asked.say(b"{" + body)

        stage.upstream.script = demands
        assert (await stage.ask(b"/weather/x")).status == 402
        assert len(flow.handed) == 1

    play(flow, script)


def test_a_402_to_a_caller_that_leaves_amid_its_body_meets_no_flow() -> None:
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        async def demands(asked: Asked) -> None:
            await asked.say(DEMAND)
            await asked.gone()
            ended.set()

        ended = asyncio.Event()
        stage.upstream.whole = False
        stage.upstream.script = demands
        client = await stage.client()
        await client.say(b"POST /weather/x HTTP/1.1\r\nhost: g\r\ncontent-length: 10\r\n\r\nfirst")
        await stage.upstream.arrived.get()
        client.leave()
        await ended.wait()
        assert flow.handed == []

    play(flow, script)


def test_a_402_too_long_for_a_demand_meets_the_flow_unread() -> None:
    async def looks(exchange: PaidExchange) -> None:
        assert exchange.demand is not None
        whole.append(exchange.demand.whole)
        await passes(exchange)

    flow, whole = Flow(looks), list[bool]()

    async def script(stage: Stage) -> None:
        async def demands(asked: Asked) -> None:
            size = MAX_DEMAND_BYTES * 2
            await asked.say(b"HTTP/1.1 402 Pay\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

        stage.upstream.script = demands
        answer = await stage.ask(b"/weather/x")
        assert (answer.status, len(answer.body)) == (402, MAX_DEMAND_BYTES * 2)
        assert not whole[0]

    play(flow, script)


def test_a_payment_with_a_body_that_cannot_be_kept_is_refused_unsent() -> None:
    flow = Flow(passes)

    async def script(stage: Stage) -> None:
        body = b"x" * (MAX_PAID_BODY_BYTES + 1)
        answer = await stage.ask(b"/weather/x", PAYS, method=b"POST", body=body)
        assert (answer.status, stage.upstream.requests) == (413, [])

    play(flow, script)


def test_the_flow_may_present_a_request_again_with_other_headers() -> None:
    async def insists(exchange: PaidExchange) -> None:
        reply = await exchange.ask()
        while reply.status != 200:
            reply = await exchange.ask([*exchange.headers, (b"x-again", b"1")], head_s=5)
        assert await exchange.answer(reply)

    async def script(stage: Stage) -> None:
        async def late(asked: Asked) -> None:
            await asked.say(OK if len(stage.upstream.requests) == 3 else DEMAND)

        stage.upstream.script = late
        answer = await stage.ask(b"/weather/x", PAYS, method=b"POST", body=b"order")
        assert answer.body == b"ok"
        assert [asked.body for asked in stage.upstream.requests] == [b"order"] * 3
        assert [asked.all(b"x-again") for asked in stage.upstream.requests] == [[], [b"1"], [b"1"]]
        assert all(asked.all(b"content-length") == [b"5"] for asked in stage.upstream.requests)
        assert stage.upstream.connections == 3

    play(Flow(insists), script)


def test_the_flow_may_answer_itself() -> None:
    async def answers(exchange: PaidExchange) -> None:
        assert await exchange.answer(whole_reply(503, [(b"retry-after", b"5")], b"{}"))

    async def script(stage: Stage) -> None:
        answer = await stage.ask(b"/weather/x", PAYS)
        assert (answer.status, answer.body, answer.all(b"retry-after")) == (503, b"{}", [b"5"])
        assert stage.upstream.requests == []

    play(Flow(answers), script)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(NotSent("nobody"), 502), (ReplyLost("broke"), 502), (ReplyLost("late", timed_out=True), 504)],
)
def test_what_the_flow_leaves_unanswered_is_a_problem(fault: Exception, status: int) -> None:
    async def gives_up(exchange: PaidExchange) -> None:
        raise fault

    async def script(stage: Stage) -> None:
        answer = await stage.ask(b"/weather/x", PAYS)
        assert (answer.status, answer.json["sent"]) == (status, not isinstance(fault, NotSent))

    play(Flow(gives_up), script)


def test_the_flow_goes_on_when_its_caller_leaves_and_learns_that_nobody_heard() -> None:
    heard: asyncio.Future[bool]

    async def goes_on(exchange: PaidExchange) -> None:
        reply = await exchange.ask()
        while not exchange.gone:
            await asyncio.sleep(0.01)
        heard.set_result(await exchange.answer(reply))

    async def script(stage: Stage) -> None:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()
        client = await stage.client()
        await client.say(b"GET /weather/x HTTP/1.1\r\nhost: g\r\nX-PAYMENT: e30=\r\n\r\n")
        await stage.upstream.arrived.get()
        client.leave()
        assert await heard is False

    play(Flow(goes_on), script)


def test_goods_for_a_caller_that_left_are_not_delivered_though_it_had_asked_for_more() -> None:
    """The server tells only the newest request of a connection that its caller has left."""
    answered: list[bool] = []
    left, done = asyncio.Event(), asyncio.Event()

    async def answers_late(exchange: PaidExchange) -> None:
        reply = await exchange.ask()
        await left.wait()
        answered.append(await exchange.answer(reply))
        done.set()

    async def script(stage: Stage) -> None:
        client = await stage.client()
        await client.say(request(b"/weather/x", PAYS) * 2)
        await stage.upstream.arrived.get()
        client.leave()
        while stage.config.held_bytes:
            await asyncio.sleep(0.01)
        left.set()
        await done.wait()
        assert answered == [False]

    play(Flow(answers_late), script)


def test_goods_are_not_delivered_to_a_caller_that_asked_for_more_and_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While its next request waits nothing is read from it, and so not that it has left."""
    monkeypatch.setattr(caller, "LISTEN_AFTER_S", 0.0)
    answered: list[bool] = []
    left, done = asyncio.Event(), asyncio.Event()

    async def answers_late(exchange: PaidExchange) -> None:
        reply = await exchange.ask()
        await left.wait()
        for _ in range(1000):  # turns of the loop, in which the end of the connection arrives
            if exchange.gone:
                break
            await asyncio.sleep(0)
        answered.append(await exchange.answer(reply))
        done.set()

    async def script(stage: Stage) -> None:
        client = await stage.client()
        await client.say(request(b"/weather/x", PAYS))
        await stage.upstream.arrived.get()
        held = stage.config.held_bytes
        await client.say(request(b"/weather/x", PAYS))
        while stage.config.held_bytes == held:
            await asyncio.sleep(0)
        client.leave()
        left.set()
        await done.wait()
        assert answered == [False]

    play(Flow(answers_late), script)
