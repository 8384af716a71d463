"""The operations port where it changes something: an orphan is refunded or written off, a look is begun."""

from typing import Any

import httpx
import pytest

from guardian.settlement.states import Answer, Money
from tests.edge.edge_stage import Stage, client
from tests.store.conftest import settlement

HASH = "0x" + "cd" * 32
REFUND = {"transaction": HASH, "by": "ann"}
WRITE_OFF = {"reason": "a test of ours", "by": "ann"}


async def orphan(stage: Stage, **changes: Any) -> str:
    facts: dict[str, Any] = {"money": Money.CONFIRMED_LATE, "answer": Answer.REFUSED}
    record = settlement(**(facts | changes))
    await stage.store.claim(record)
    return record.id


@pytest.mark.parametrize(
    ("how", "asked", "event"), [("refund", REFUND, "refunded"), ("write-off", WRITE_OFF, "written_off")]
)
def test_an_orphan_is_closed_once(how: str, asked: dict[str, str], event: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage)
        reply = await http.post(f"/api/orphans/{id}/{how}", json=asked)
        assert reply.status_code == 200
        shown = reply.json()
        assert (shown["orphan"], shown["closed_by"], shown["events"][-1]["name"]) == (False, "ann", event)
        assert shown["refund_transaction"] == asked.get("transaction")
        assert (await http.get("/api/settlements?orphans=true")).json() == {"settlements": []}
        again = await http.post(f"/api/orphans/{id}/{how}", json=asked)
        assert again.status_code == 409
        assert "closed before, by ann" in again.json()["error"]

    Stage().play_operations(script)


@pytest.mark.parametrize("how", ["refund", "write-off"])
def test_what_is_no_orphan_is_not_closed(how: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage, answer=Answer.ACCEPTED)
        asked = REFUND if how == "refund" else WRITE_OFF
        reply = await http.post(f"/api/orphans/{id}/{how}", json=asked)
        assert (reply.status_code, "no orphan" in reply.json()["error"]) == (409, True)
        assert (await http.post(f"/api/orphans/pay_x/{how}", json=asked)).status_code == 404

    Stage().play_operations(script)


@pytest.mark.parametrize(
    ("how", "sent", "status"),
    [
        ("refund", {"json": {"by": "ann"}}, 400),
        ("refund", {"json": REFUND | {"unverified": "yes"}}, 400),
        ("refund", {"json": REFUND | {"more": 1}}, 400),
        ("refund", {"json": REFUND | {"transaction": "0x12"}}, 409),
        ("write-off", {"json": {"by": "ann", "reason": " "}}, 409),
        ("write-off", {"json": {"by": "ann", "reason": "x" * 17_000}}, 413),
        ("write-off", {"json": []}, 400),
        ("write-off", {"content": b"[" * 10_000, "headers": {"content-type": "application/json"}}, 400),
        ("write-off", {"content": b'{"reason":"x","by":"ann"}'}, 415),
        ("write-off", {"data": {"reason": "x", "by": "ann"}}, 415),
    ],
)
def test_a_request_that_cannot_be_used_changes_nothing(how: str, sent: dict[str, Any], status: int) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage)
        reply = await http.post(f"/api/orphans/{id}/{how}", **sent)
        assert reply.status_code == status
        assert reply.json()["error"]
        assert len(await stage.store.page(orphans=True)) == 1

    Stage().play_operations(script)


def test_a_refund_on_a_watched_network_without_a_node_waits_unless_a_person_insists() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage, watched=True, chain_proven=True)
        reply = await http.post(f"/api/orphans/{id}/refund", json=REFUND)
        assert (reply.status_code, "unverified" in reply.json()["error"]) == (409, True)
        reply = await http.post(f"/api/orphans/{id}/refund", json=REFUND | {"unverified": True})
        assert reply.status_code == 200

    Stage().play_operations(script)


def test_whoever_asks_for_a_refunded_payment_is_told_of_the_refund() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage)
        await http.post(f"/api/orphans/{id}/refund", json=REFUND)
        async with client(stage.guardian.data) as data:
            shown = (await data.get(f"/payments/{id}")).json()
        assert (shown["action"], shown["refundTransaction"]) == ("reject", HASH)
        assert "ann" not in str(shown)

    Stage().play_operations(script)


def test_closing_is_no_get() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        id = await orphan(stage)
        assert (await http.get(f"/api/orphans/{id}/refund")).status_code == 405
        assert (await http.get(f"/api/orphans/{id}/write-off")).status_code == 405

    Stage().play_operations(script)


@pytest.mark.parametrize("query", ["network=bas", "network=eip155:x", "networks=base"])
def test_reconcile_takes_no_typing_error_for_nothing_open(query: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await orphan(stage)
        reply = await http.get(f"/api/reconcile?{query}")
        assert (reply.status_code, "network" in reply.json()["error"]) == (400, True)

    Stage().play_operations(script)


def test_an_empty_body_is_told_what_to_send() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        json = {"content-type": "application/json"}
        reply = await http.post("/api/reconcile", headers=json)
        assert (reply.status_code, "send a JSON object" in reply.json()["error"]) == (400, True)

    Stage().play_operations(script)


def test_reconcile_lists_what_is_not_over_and_a_post_takes_up_what_was_left_lying() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        left = settlement("left", money=Money.CONFIRMED, owner="dead", payer="p")
        await stage.store.claim(left)
        id = await orphan(stage)
        found = (await http.get("/api/reconcile")).json()["standing"]
        assert [one["id"] for one in found] == [left.id, id]
        assert found[1]["then"] == "deliver, refund or write off"
        assert (await http.get("/api/reconcile?network=eip155:1")).json() == {"standing": []}
        named = (await http.get("/api/reconcile?network=base")).json()["standing"]
        assert [one["id"] for one in named] == [left.id, id]
        assert (await http.post("/api/reconcile")).status_code == 415
        assert await stage.store.get(left.key) == left
        found = (await http.post("/api/reconcile", json={})).json()["standing"]
        assert {one["then"] for one in found} == {"deliver, refund or write off"}
        assert "body" not in found[0]

    Stage().play_operations(script)
