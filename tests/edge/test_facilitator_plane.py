"""The data port: which path goes where, what is refused before anything is sent, what passes as it is."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from guardian.errors import StoreUnavailable
from guardian.store.memory import MemoryStore
from tests.edge.edge_stage import RawCaller, Stage, part
from tests.flow.scene import NETWORK, PAYER, SELLER, TX, refused, settled, signed_payment

TWO = {"one": "http://one/platform/v2/x402", "two": "http://two/api"}


def _payment(**changes: Any) -> bytes:
    """A signed payment with other requirements, e.g. another network."""
    body = json.loads(signed_payment())
    body["paymentRequirements"] |= changes
    body["paymentPayload"]["accepted"] |= changes
    return json.dumps(body).encode()


# --- refused before anything is sent


@pytest.mark.parametrize("path", ["/settle", "/verify"])
def test_a_body_of_two_megabytes_is_refused(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post(path, content=b"{" + b" " * 2 * 1024 * 1024 + b"}")
        assert (reply.status_code, reply.json()["field"]) == (413, "body")
        assert stage.requests == []

    Stage().play(script)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 100_000, "body"),
        (b"[]", "body"),
        (b"{}", "paymentPayload"),
        (b'{"x402Version": 2}', "paymentPayload"),
        (b'{"x402Version": 2, "paymentPayload": 7, "paymentRequirements": {}}', "paymentPayload"),
        (_payment(amount={"a": 1}), "amount"),
        (_payment(amount="-1"), "amount"),
        (_payment(network=["eip155:84532"]), "network"),
        (_payment(payTo=3), "payTo"),
    ],
)
@pytest.mark.parametrize("path", ["/settle", "/verify"])
def test_a_payment_that_cannot_be_read_is_refused_with_its_field(path: str, body: bytes, field: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post(path, content=body)
        told = reply.json()
        assert reply.status_code == 400
        assert field in told["field"]
        assert told["field"] in told["error"]
        assert (told["success"] if path == "/settle" else told["isValid"]) is False
        assert stage.requests == []

    Stage().play(script)


class BrokenStore(MemoryStore):
    """A store that can be pinged and nothing else."""

    def _check_open(self) -> None:
        raise StoreUnavailable("the disk is full")

    async def open_records(self) -> list[Any]:
        return []


@pytest.mark.parametrize("path", ["/settle", "/verify", "/payments/pay_1"])
def test_without_a_store_nothing_is_sent(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await (http.get(path) if "payments" in path else http.post(path, content=signed_payment()))
        said = reply.json()
        assert (reply.status_code, said["field"]) == (503, "store")
        reasons = {"/settle": said.get("errorReason"), "/verify": said.get("invalidReason")}
        assert reasons.get(path, "guardian_unavailable") == "guardian_unavailable"
        assert reply.headers["retry-after"] == "5"
        assert stage.requests == []

    Stage(store=BrokenStore()).play(script)


# --- payments


def test_an_unknown_network_passes_unwatched() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post("/settle", content=_payment(network="moon:1"))
        assert reply.json()["success"] is True
        (record,) = await stage.store.page()
        assert (record.network, record.watched) == ("moon:1", False)

    Stage().play(script)


def test_headers_reach_the_facilitator_end_to_end() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        sent = [
            (b"authorization", b"Bearer key"),
            (b"x-twice", b"1"),
            (b"x-twice", b"2"),
            (b"connection", b"x-private"),
            (b"x-private", b"1"),
            (b"te", b"trailers"),
            (b"content-type", b"application/json"),
        ]
        await http.post("/settle", content=signed_payment(), headers=sent)
        (request,) = stage.requests
        assert request.headers["authorization"] == "Bearer key"
        assert request.headers.get_list("x-twice") == ["1", "2"]
        assert request.headers["host"] == "facilitator"
        assert not {"x-private", "te", "connection"} & set(request.headers)

    Stage().play(script)


def test_headers_of_the_reply_reach_the_caller() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        headers = [("EXTENSION-RESPONSES", "abc"), ("X-Twice", "1"), ("X-Twice", "2"), ("Keep-Alive", "9")]
        stage.replies["settle"] = httpx.Response(200, content=settled().content, headers=headers)
        reply = await http.post("/settle", content=signed_payment())
        assert reply.headers["extension-responses"] == "abc"
        assert reply.headers.get_list("x-twice") == ["1", "2"]
        assert "keep-alive" not in reply.headers

    Stage().play(script)


def test_a_named_facilitator_is_the_only_one_asked() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["settle"] = httpx.ConnectError("refused")
        await http.post("/facilitators/two/settle", content=signed_payment())
        assert stage.paths == ["two/api/settle"]

    Stage(TWO).play(script)


def test_what_one_facilitator_refuses_is_no_word_of_another_that_is_named() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["settle"], body = refused("insufficient_funds"), signed_payment()
        for _ in range(2):
            reply = await http.post("/facilitators/one/settle", content=body)
            assert reply.json()["errorReason"] == "insufficient_funds"
        stage.replies["settle"] = settled()
        reply = await http.post("/facilitators/two/settle", content=body)
        assert reply.json()["success"] is True
        assert stage.paths == ["one/platform/v2/x402/settle", "two/api/settle"]

    Stage(TWO).play(script)


@pytest.mark.parametrize("path", ["/facilitators/three/settle", "/facilitators/Two/verify"])
def test_a_payment_to_a_facilitator_that_is_not_named_is_sent_nowhere(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post(path, content=signed_payment())
        assert (reply.status_code, reply.json()["field"]) == (404, "path")
        assert "there is /facilitators/one/" in reply.json()["cure"]
        assert stage.paths == []

    Stage(TWO).play(script)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/settle",
        "/x402/Settle/",
        "/facilitators/one/v1/settle",
        "/platform/v2/x402/v1/settle",
        "/v1/%73ettle",
    ],
)
def test_a_settle_that_nobody_would_guard_is_sent_nowhere(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post(path, content=signed_payment())
        assert (reply.status_code, reply.json()["success"], reply.json()["field"]) == (404, False, "path")
        assert "in its url" in reply.json()["cure"]
        assert stage.paths == []
        for passing in ("/v1/settlements", "/settle/limits", "/v1/discovery", "/escrow/settle"):
            await http.post(passing, content=b'{"escrow": 1}')
        assert len(stage.paths) == 4
        assert stage.requests[-1].content == b'{"escrow": 1}'

    Stage(TWO).play(script)


def test_without_a_name_the_next_facilitator_is_asked() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["settle"] = httpx.ConnectError("refused")
        await http.post("/settle", content=signed_payment())
        assert stage.paths == ["one/platform/v2/x402/settle", "two/api/settle"]

    Stage(TWO).play(script)


@pytest.mark.parametrize("urls", [TWO, {"one": TWO["one"]}])
def test_a_facilitators_own_path_leads_to_it(urls: dict[str, str]) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.post("/platform/v2/x402/settle", content=signed_payment())
        assert reply.json()["transaction"] == TX
        assert stage.paths == ["one/platform/v2/x402/settle"]
        assert len(await stage.store.page()) == 1

    Stage(urls).play(script)


@pytest.mark.parametrize("path", ["/settle/", "//settle", "/%73ettle", "/Settle", "/./settle"])
def test_no_spelling_of_settle_leads_past_the_guard(path: str) -> None:
    async def run(stage: Stage) -> None:
        caller = RawCaller(part(signed_payment()), path=path)
        await caller.call(stage.guardian.data)
        assert caller.heard["success"] is True
        assert len(await stage.store.page()) == 1
        assert stage.paths == ["facilitator/settle"]

    Stage().play(lambda stage, http: run(stage))


# --- a caller that leaves


@pytest.mark.parametrize("path", ["/settle", "/verify", "/facilitators/two/settle", "/./Settle/"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "SETTLE"])
def test_a_payment_by_another_method_than_post_is_sent_nowhere(method: str, path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.request(method, path, content=_payment())
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        assert (reply.json()["field"], reply.json()["found"]) == ("method", method)
        assert stage.requests == []

    Stage(TWO).play(script)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_only_reads_at_settle_passes(method: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await http.request(method, "/settle")
        assert [request.method for request in stage.requests] == [method]

    Stage().play(script)


def test_a_caller_that_leaves_is_recorded_and_its_settle_runs_on() -> None:
    async def run(stage: Stage) -> None:
        reached, go = asyncio.Event(), asyncio.Event()

        async def slow(request: httpx.Request) -> httpx.Response:
            reached.set()
            await go.wait()
            return settled()

        stage.replies["settle"] = slow
        caller = RawCaller(part(signed_payment()))
        calling = asyncio.create_task(caller.call(stage.guardian.data))
        await reached.wait()
        caller.left.set()
        await calling
        go.set()
        while (await stage.store.page())[0].money != "confirmed":
            await asyncio.sleep(0.002)
        (record,) = await stage.store.page()
        assert (record.answer, record.orphan, caller.sent) == ("abandoned", True, [])

    Stage().play(lambda stage, http: run(stage))


@pytest.mark.parametrize("path", ["/settle", "/discovery"])
def test_half_a_request_reaches_no_facilitator_as_a_whole_one(path: str) -> None:
    async def run(stage: Stage) -> None:
        caller = RawCaller(part(b'{"a":', more=True), path=path, headers=[(b"transfer-encoding", b"chunked")])
        caller.left.set()
        await caller.call(stage.guardian.data)
        assert caller.status in (400, 504)
        assert stage.requests == []

    Stage().play(lambda stage, http: run(stage))


# --- /supported and /payments/<id>


def test_supported_is_what_the_facilitators_support() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.get("/supported")
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["kinds"] == [{"x402Version": 2, "scheme": "exact", "network": NETWORK}]

    Stage().play(script)


def test_supported_of_a_dead_facilitator_is_a_bad_gateway() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.get("/supported")
        assert reply.status_code == 502
        assert "/supported" in reply.json()["error"]

    Stage(supported=httpx.ConnectError("refused")).play(script)


def test_a_payments_status_names_no_party_and_no_signature() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await http.post("/settle", content=signed_payment())
        (record,) = await stage.store.page()
        reply = await http.get(f"/payments/{record.id}")
        shown = reply.json()
        assert (shown["money"], shown["action"], shown["transaction"]) == ("confirmed", "deliver", TX)
        for secret in (PAYER.address.lower(), SELLER, record.nonce, record.signature_hash, record.resource):
            assert secret not in reply.text.lower()

    Stage().play(script)


@pytest.mark.parametrize("id", ["pay_nothing", "", "%00", "a/b", "x" * 5000])
def test_an_unknown_payment_is_not_found(id: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.get(f"/payments/{id}")
        assert reply.status_code == 404
        assert len(reply.content) < 500
        assert stage.requests == []

    Stage().play(script)


# --- everything else passes


def test_other_paths_pass_with_method_query_body_and_status() -> None:
    async def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(418, headers={"x-tea": "1"}, content=request.content[::-1])

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["resources"] = echo
        reply = await http.put("/discovery/resources?type=http&limit=2", content=b"abc")
        assert (reply.status_code, reply.headers["x-tea"], reply.content) == (418, "1", b"cba")
        (request,) = stage.requests
        assert request.headers["content-length"] == "3"
        assert (request.method, request.url.raw_path) == ("PUT", b"/discovery/resources?type=http&limit=2")

    Stage().play(script)


def test_a_named_facilitators_other_paths_go_to_it() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await http.get("/facilitators/two/supported")
        await http.get("/facilitators/two/discovery/resources")
        await http.get("/discovery/resources")
        assert stage.paths == [
            *("two/api/supported", "two/api/discovery/resources"),
            "one/platform/v2/x402/discovery/resources",
        ]

    Stage(TWO).play(script)


@pytest.mark.parametrize(("fault", "status"), [(httpx.ConnectError(""), 502), (httpx.ReadTimeout(""), 504)])
def test_a_facilitator_that_gives_no_reply_is_named(fault: Exception, status: int) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["discovery"] = fault
        reply = await http.get("/discovery")
        assert reply.status_code == status
        assert "main" in reply.json()["error"]

    Stage().play(script)


@pytest.mark.parametrize(
    "path", ["/a/../settle", "/%2e%2e/admin", "/..%2fadmin", "/..%5cadmin", "/%252e%252e/admin"]
)
def test_a_path_that_climbs_out_of_the_facilitators_url_goes_nowhere(path: str) -> None:
    async def run(stage: Stage) -> None:
        caller = RawCaller(part(b""), path=path)
        await caller.call(stage.guardian.data)
        assert caller.status == 502
        assert stage.requests == []

    Stage().play(lambda stage, http: run(stage))


class Breaking(httpx.AsyncByteStream):
    """A reply body that breaks off."""

    async def __aiter__(self) -> Any:
        yield b"first"
        raise httpx.ReadError("reset")


def test_a_reply_that_breaks_off_is_not_made_to_look_whole() -> None:
    async def breaking(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Breaking())

    async def run(stage: Stage) -> None:
        stage.replies["discovery"] = breaking
        caller = RawCaller(part(b""), path="/discovery")
        await caller.call(stage.guardian.data)
        assert [message.get("body") for message in caller.sent] == [None, b"first"]
        assert caller.sent[-1]["more_body"] is True

    Stage().play(lambda stage, http: run(stage))
