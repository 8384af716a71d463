"""The operations port about spending: what is counted, the switch, approvals."""

from typing import Any

import httpx
import pytest

from tests.edge.edge_stage import client
from tests.flow.buy_scene import BuyScene, signed
from tests.flow.test_spending import ASKS, SpendScene

BY = {"by": "ann"}


def play(script: Any, *rules: dict[str, Any]) -> None:
    async def with_client(scene: BuyScene) -> None:
        async with client(scene.guardian.operations) as http:
            await script(scene, http)

    SpendScene(*rules).play(with_client)


def test_what_is_counted_is_shown_by_rule_with_amounts_as_texts() -> None:
    async def script(scene: SpendScene, http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/spending")).json() == {
            "stopped": None,
            "stopped_by_policy": False,
            "budgets": [],
        }
        await scene.buy(signed())
        (budget,) = (await http.get("/api/spending")).json()["budgets"]
        assert (budget["rule"], budget["limit"], budget["counted"]) == ("day", "per_day", "10000")
        assert (budget["window"], budget["whose"]) == ("2026-03-01", "")
        scene.now += 86400
        assert (await http.get("/api/spending")).json()["budgets"] == []

    play(script, {"name": "day", "per_day": "$1"})


def test_the_switch_stops_and_resumes() -> None:
    async def script(scene: SpendScene, http: httpx.AsyncClient) -> None:
        stopped = (await http.post("/api/spending/stop", json=BY | {"reason": "a runaway"})).json()
        assert (stopped["stopped"]["by"], stopped["stopped"]["reason"]) == ("ann", "a runaway")
        assert (await scene.buy(signed())).status == 403
        shown = (await http.get("/api/spending")).json()
        assert shown["stopped"] == stopped["stopped"]
        assert (await http.post("/api/spending/resume", json=BY)).json()["stopped"] is None
        assert (await scene.buy(signed())).status == 200

    play(script)


def test_an_approval_is_listed_approved_and_used() -> None:
    async def script(scene: SpendScene, http: httpx.AsyncClient) -> None:
        id = (await scene.buy(signed())).problem["approval"]
        (listed,) = (await http.get("/api/approvals")).json()["approvals"]
        assert (listed["id"], listed["state"], listed["amount"]) == (id, "asked", "10000")
        approved = (await http.post(f"/api/approvals/{id}/approve", json=BY | {"lasts_s": 60})).json()
        assert (approved["state"], approved["by"], approved["until"]) == ("approved", "ann", scene.now + 60)
        assert (await scene.buy(signed())).status == 200
        again = await http.post(f"/api/approvals/{id}/deny", json=BY)
        assert (again.status_code, "used" in again.json()["error"]) == (409, True)

    play(script, ASKS)


def test_an_approval_is_denied() -> None:
    async def script(scene: SpendScene, http: httpx.AsyncClient) -> None:
        id = (await scene.buy(signed())).problem["approval"]
        denied = (await http.post(f"/api/approvals/{id}/deny", json=BY | {"note": "no"})).json()
        assert (denied["state"], denied["note"]) == ("denied", "no")
        assert (await scene.buy(signed())).problem["limit"] == "approval_denied"

    play(script, ASKS)


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("spending/stop", {"json": {}}, 400),
        ("spending/stop", {"json": {"by": " "}}, 409),
        ("spending/stop", {"content": b'{"by":"ann"}'}, 415),
        ("spending/resume", {"data": {"by": "ann"}}, 415),
        ("spending/resume", {"json": BY | {"more": 1}}, 400),
        ("approvals/apr_x/approve", {"json": BY}, 404),
        ("approvals/apr_x/approve", {"json": BY | {"lasts_s": 1e12}}, 409),
        ("approvals/apr_x/deny", {"json": {"by": "x" * 20_000}}, 413),
    ],
)
def test_a_request_that_cannot_be_used_changes_nothing(path: str, sent: dict[str, Any], status: int) -> None:
    async def script(scene: SpendScene, http: httpx.AsyncClient) -> None:
        assert (await http.post(f"/api/{path}", **sent)).status_code == status
        assert (await http.get("/api/spending")).json()["stopped"] is None

    play(script)
