"""Where the guardian connects is the policy's choice: no path, header or payload can name another place."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.errors import NotSent
from guardian.facilitator.headers import below
from tests.edge.edge_stage import RawCaller, Stage, part
from tests.flow.scene import signed_payment

ELSEWHERE = "evil.example"
PATHS = [
    f"//{ELSEWHERE}/settle",
    f"/\\{ELSEWHERE}/x",
    f"/@{ELSEWHERE}/x",
    f"@{ELSEWHERE}/x",
    f":80@{ELSEWHERE}/x",
    f".{ELSEWHERE}/x",
    f"/facilitators/main@{ELSEWHERE}/x",
    f"/facilitators/main/@{ELSEWHERE}",
    f"/facilitators/main//{ELSEWHERE}/x",
    f"/http://{ELSEWHERE}/x",
    f"http://{ELSEWHERE}/x",
    "/%2f%2fevil.example",
    "/..%2f..%2fevil",
    "/x%0d%0aHost:%20evil.example",
    "*",
    "",
]


def _send(path: str, *, method: str = "GET", body: bytes = b"", headers: Any = ()) -> Stage:
    stage = Stage()

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        caller = RawCaller(part(body), path=path, headers=headers)
        caller.scope["method"] = method
        await caller.call(stage.guardian.data)
        assert caller.sent

    stage.play(script)
    return stage


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_another_host(path: str) -> None:
    assert {request.url.host for request in _send(path).requests} <= {"facilitator"}


@pytest.mark.parametrize("name", ["host", "x-forwarded-host", "forwarded", "x-original-url", "x-rewrite-url"])
def test_no_header_leads_to_another_host(name: str) -> None:
    headers = [(name.encode(), ELSEWHERE.encode())]
    (request,) = _send("/discovery", headers=headers).requests
    assert (request.url.host, request.headers["host"]) == ("facilitator", "facilitator")


def test_no_field_of_a_payment_leads_to_another_host() -> None:
    body = json.loads(signed_payment())
    for place in (
        body,
        body["paymentPayload"],
        body["paymentPayload"]["payload"],
        body["paymentRequirements"],
    ):
        for name in ("url", "facilitator", "facilitatorUrl", "rpc", "callback", "webhook", "resource"):
            place[name] = f"http://{ELSEWHERE}/"
    stage = _send("/settle", method="POST", body=json.dumps(body).encode())
    assert {request.url.host for request in stage.requests} == {"facilitator"}


def test_a_redirect_is_handed_on_and_not_followed() -> None:
    stage = Stage()
    stage.replies["discovery"] = httpx.Response(307, headers={"location": f"http://{ELSEWHERE}/"})

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        assert (await http.get("/discovery")).status_code == 307
        assert len(stage.requests) == 1

    stage.play(script)


@settings(max_examples=300, deadline=None)
@given(st.text("/\\@:.?#%25fe[]evilx \t\r\n\x00é", max_size=30))
def test_any_path_stays_below_the_facilitators_url(path: str) -> None:
    base = "http://facilitator:8080/platform/v2"
    try:
        url = httpx.URL(below(base, path))
    except (NotSent, httpx.InvalidURL):
        return
    assert (url.scheme, url.host, url.port, url.username) == ("http", "facilitator", 8080, "")
    assert url.path.startswith("/platform/v2")


def test_a_caller_of_the_data_port_sees_nothing_of_the_operations() -> None:
    stage = Stage()

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await http.post("/settle", content=signed_payment())
        for path in ("/metrics", "/healthz", "/readyz", "/api/settlements", "/api/policy"):
            assert (await http.get(path)).text == "not here", path  # the facilitator's own words
        assert (await http.get("/payments/")).status_code == 404
        assert (await http.get("/payments/%2e%2e/api/settlements")).status_code == 404
        (record,) = await stage.store.page()
        shown = (await http.get(f"/payments/{record.id}")).text
        for secret in (record.payer, record.pay_to, record.nonce, record.resource, str(record.amount)):
            assert secret not in shown

    stage.play(script)


def test_a_name_that_somebody_made_up_is_not_looked_up_for_ever() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        replies = await asyncio.gather(*(http.get(f"/payments/pay_{number:032x}") for number in range(50)))
        assert {reply.status_code for reply in replies} == {404}
        long = await http.get("/payments/" + "a" * 60_000)
        assert (long.status_code, len(long.json()["found"])) == (404, 64)

    Stage().play(script)
