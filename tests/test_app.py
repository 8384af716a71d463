"""The guardian as an application: on its own, and mounted inside another."""

import asyncio
from pathlib import Path

import httpx
import pytest
import respx
from starlette.applications import Starlette
from starlette.routing import Mount

import guardian
from guardian.app import build, mountable
from guardian.errors import PolicyError
from guardian.policy.load import parse_policy
from guardian.store.memory import MemoryStore
from tests.flow.scene import settled, signed_payment

POLICY = """
version: 1
facilitators:
  - name: main
    url: http://facilitator.test/platform/v2/x402
networks:
  eip155:84532: {post_sign_delay: 0s}
"""


def test_a_settle_passes_through_a_host_application_that_runs_no_lifespan(tmp_path: Path) -> None:
    router = respx.MockRouter()
    router.post("http://facilitator.test/platform/v2/x402/settle").mock(return_value=settled())

    async def run() -> httpx.Response:
        inside = build(
            parse_policy(POLICY, "policy.yaml"),
            MemoryStore(),
            transport=httpx.MockTransport(router.async_handler),
        )
        host = Starlette(routes=[Mount("/pay", app=mountable(inside))])
        try:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(host), base_url="http://host"
            ) as client:
                return await client.post("/pay/settle", content=signed_payment())
        finally:
            await inside.stop()

    answer = asyncio.run(run())
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert router.calls.call_count == 1


def test_create_app_names_what_is_wrong_with_a_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nfacilitator: []\n")
    with pytest.raises(PolicyError, match="facilitators"):
        guardian.create_app(file)


def test_create_app_opens_its_store_with_the_lifespan(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)

    async def run() -> int:
        app = guardian.create_app(tmp_path / "policy.yaml", store=f"sqlite:///{tmp_path}/guardian.db")
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://guardian") as client:
                return (await client.get("/payments/pay_unknown")).status_code

    assert asyncio.run(run()) == 404
    assert (tmp_path / "guardian.db").exists()
