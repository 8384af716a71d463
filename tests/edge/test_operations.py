"""The operations port: is it alive, is it ready and if not why, what became of the payments."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from guardian.chain.rpc import Endpoints, Standing
from guardian.chain.watcher import Watcher
from guardian.errors import ChainUnavailable, StoreUnavailable
from guardian.facilitator.circuit import OPEN, CircuitKey
from guardian.flow.diagnosis import MEANS, Kind
from guardian.store.memory import MemoryStore
from tests.edge.edge_stage import Stage, client
from tests.flow.scene import NETWORK, refused, signed_payment

DOWN = httpx.ConnectError("refused")


class FailingStore(MemoryStore):
    """A store whose disk can be taken away."""

    down = False

    def _check_open(self) -> None:
        if self.down:
            raise StoreUnavailable("the disk is full")
        super()._check_open()


class BlindWatcher:
    """A watcher whose node is dead."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    fault, head = "no node answers", 0

    async def check(self) -> None:
        raise ChainUnavailable(self.fault)

    def standings(self) -> list[Standing]:
        return []


def test_health_says_only_that_the_process_lives() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.store.down = True  # type: ignore[attr-defined]
        stage.replies["supported"] = DOWN
        stage.guardian.drain()
        assert (await http.get("/healthz")).status_code == 200
        stage.store.down = False  # type: ignore[attr-defined]

    Stage(store=FailingStore()).play_operations(script)


def test_a_well_guardian_is_ready() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.get("/readyz")
        assert (reply.status_code, reply.json()) == (200, {"ready": True, "faults": {}, "networks": {}})

    Stage().play_operations(script)


@pytest.mark.parametrize("fault", ["store", "facilitator", "rpc", "draining"])
def test_a_guardian_that_is_not_ready_names_the_fault(fault: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        _break(stage, fault)
        reply = await http.get("/readyz")
        assert reply.status_code == 503
        assert list(reply.json()["faults"]) == [fault]
        stage.store.down = False  # type: ignore[attr-defined]

    supported = DOWN if fault == "facilitator" else None
    Stage(store=FailingStore(), supported=supported).play_operations(script)


def _break(stage: Stage, fault: str) -> None:
    if fault == "store":
        stage.store.down = True  # type: ignore[attr-defined]
    elif fault == "rpc":
        stage.guardian.parts.watchers[NETWORK] = BlindWatcher()  # type: ignore[assignment]
    elif fault == "draining":
        stage.guardian.drain()


def test_one_dead_node_of_two_networks_is_still_ready() -> None:
    class Seeing(BlindWatcher):
        async def check(self) -> None: ...

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.guardian.parts.watchers[NETWORK] = BlindWatcher()  # type: ignore[assignment]
        stage.guardian.parts.watchers["eip155:8453"] = Seeing()  # type: ignore[index,assignment]
        assert (await http.get("/readyz")).status_code == 200

    Stage().play_operations(script)


def test_readiness_shows_every_node_and_no_more_of_its_url_than_the_host() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        urls = ["http://u:hidden@127.0.0.1:1/v2/hidden?key=hidden", "ws://127.0.0.1:1/hidden"]
        watcher = Watcher(
            NETWORK,
            Endpoints(NETWORK, urls, timeout_s=1),
            block_time_s=2,
            confirmations=1,
            finality_blocks=10,
            clock=time.time,
        )
        stage.guardian.parts.watchers[NETWORK] = watcher
        reply = await http.get("/readyz")
        shown = reply.json()["networks"][NETWORK]
        refused = "does not answer (Connection refused)"
        assert shown["endpoints"] == [
            {"endpoint": f"{place}:127.0.0.1", "state": refused, "head": 0, "calls": calls}
            for place, calls in enumerate((one["calls"] for one in shown["endpoints"]), start=1)
        ]
        assert shown["fault"].startswith(f"no RPC endpoint of {NETWORK} is usable: 1:127.0.0.1 does not")
        assert "hidden" not in reply.text
        await watcher.stop()

    Stage().play_operations(script)


def test_metrics_are_prometheus_text() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await _settle(stage, 1)
        reply = await http.get("/metrics")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/plain")
        assert "guardian" in reply.text

    Stage().play_operations(script)


async def _settle(stage: Stage, nonce: int) -> Any:
    """Each of another resource: two purchases do not wait for one another."""
    async with client(stage.guardian.data) as http:
        reply = await http.post("/settle", content=signed_payment(nonce, resource=f"https://shop/{nonce}"))
        return reply.json()


async def _listed(http: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    reply = await http.get(f"/api/settlements{query}")
    assert reply.status_code == 200
    return list(reply.json()["settlements"])


def test_settlements_are_listed_newest_first_and_filtered() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await _settle(stage, 1)
        stage.replies["settle"] = refused("insufficient_funds")
        await _settle(stage, 2)
        both = await _listed(http, "")
        assert [one["money"] for one in both] == ["failed", "confirmed"]
        assert [one["money"] for one in await _listed(http, "?money=confirmed")] == ["confirmed"]
        assert len(await _listed(http, "?money=confirmed&money=failed")) == 2
        assert await _listed(http, "?limit=1") == both[:1]
        assert await _listed(http, f"?before={both[0]['created_at']}") == both[1:]
        assert await _listed(http, "?orphans=true") == []

    Stage().play_operations(script)


def test_neither_body_nor_signature_is_shown() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await _settle(stage, 1)
        shown = (await http.get("/api/settlements")).text
        async with client(stage.guardian.data) as data:
            id = (await _listed(http, ""))[0]["id"]
            shown += (await data.get(f"/payments/{id}")).text
        signature = signed_payment(1).split(b'"signature": "0x')[1].split(b'"')[0].decode()
        assert signature[:20] not in shown
        assert '"body"' not in shown

    Stage().play_operations(script)


@pytest.mark.parametrize(
    "query",
    [
        *("money=paid", "limit=many", "limit=0", "limit=-1", "before=today", "before=nan", "before=inf"),
        *("orphans=maybe", "mony=failed", "network=eip155:8453"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_with_its_cure(query: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        reply = await http.get(f"/api/settlements?{query}")
        assert reply.status_code == 400
        said = reply.json()["error"]
        assert query.partition("=")[0] in said
        assert any(cure in said for cure in ("; use ", "; write ", "; did you mean money?", "; known here: "))

    Stage().play_operations(script)


def test_one_settlement_comes_with_its_audit_trail() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await _settle(stage, 1)
        (record,) = await _listed(http, "")
        shown = (await http.get(f"/api/settlements/{record['id']}")).json()
        assert shown == record
        assert shown["events"][0]["name"] == "claimed"
        assert shown["amount"] == "10000"

    Stage().play_operations(script)


def test_an_unknown_settlement_is_not_found() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/settlements/pay_nothing")).status_code == 404

    Stage().play_operations(script)


@pytest.mark.parametrize("path", ["/api/settlements", "/api/settlements/pay_1"])
def test_a_store_that_is_down_is_said_to_be_down(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.store.down = True  # type: ignore[attr-defined]
        reply = await http.get(path)
        stage.store.down = False  # type: ignore[attr-defined]
        assert reply.status_code == 503
        assert "store" in reply.json()["error"]

    Stage(store=FailingStore()).play_operations(script)


def test_readiness_asks_no_facilitator_anew() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        replies = await asyncio.gather(*(http.get("/readyz") for _ in range(5)))
        assert {reply.status_code for reply in replies} == {200}
        assert stage.paths == []

    Stage().play_operations(script)


def test_the_diagnosis_names_who_costs_others_money_and_which_network_is_unhealthy() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/diagnosis")).json()["found"] == []
        parts = stage.guardian.parts
        parts.diagnosis.of_facilitator(Kind.FACILITATOR_LIES, "main", NETWORK, "pay_1")
        parts.circuits.impose(CircuitKey("main", NETWORK, "settle"), OPEN)
        told = (await http.get("/api/diagnosis")).json()
        (one,) = told["found"]
        assert (one["kind"], one["facilitator"], one["count"]) == ("facilitator_lies", "main", 1)
        assert (one["last_settlement"], one["means"]) == ("pay_1", MEANS[Kind.FACILITATOR_LIES])
        why = {"network": NETWORK, "healthy": False, "why": "every facilitator's circuit is open"}
        assert told["networks"] == [why | {"judged": 0, "wrong": 0}]

    Stage().play_operations(script)
