"""What callers and facilitators may choose fills neither metrics nor memory."""

import asyncio
import gzip
import json
import re

import httpx

from guardian.telemetry import MAX_NETWORKS
from tests.edge.edge_stage import Stage, client
from tests.flow.scene import refused, signed_payment


def _on_network(network: str) -> bytes:
    body = json.loads(signed_payment())
    for terms in (body["paymentRequirements"], body["paymentPayload"]["accepted"]):
        terms["network"] = network
    return json.dumps(body).encode()


def test_no_caller_and_no_facilitator_can_multiply_the_series() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        async def reply(request: httpx.Request) -> httpx.Response:
            number = len(stage.requests)
            said = refused(f"reason_{number}", message=f"text {number}", status=(200, 500, 418)[number % 3])
            return httpx.Response(said.status_code, content=said.content)

        stage.replies["settle"] = stage.replies["verify"] = reply
        ways = ("/settle", "/verify")
        bodies = [_on_network(f"eip155:{70_000 + number}") for number in range(MAX_NETWORKS + 30)]
        await asyncio.gather(*(http.post(ways[at % 2], content=body) for at, body in enumerate(bodies)))
        async with client(stage.guardian.operations) as operators:
            page = (await operators.get("/metrics")).text
        values = {
            label: set(re.findall(rf'[{{,]{label}="([^"]*)"', page))
            for label in ("network", "rule", "outcome")
        }
        assert len(values["network"]) <= MAX_NETWORKS + 1
        assert len(values["rule"]) < 10
        assert "reason_" not in page

    stage = Stage()
    stage.play(script)


def test_a_reply_that_unfolds_without_end_is_a_lost_one() -> None:
    bomb = gzip.compress(b" " * 64 * 1024 * 1024)
    assert len(bomb) < 128 * 1024

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        async def reply(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(bomb))

        stage.replies["settle"] = reply
        told = (await http.post("/settle", content=signed_payment())).json()
        assert told["success"] is False
        (record,) = await stage.store.page()
        assert record.money in ("unresolved", "polling")

    stage = Stage()
    stage.play(script)
