"""402s of real sellers through the agent plane, to unmodified SDK clients: what an agent must not sign it is
not shown, and it signs for the network that it is offered first."""

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import HOLDS, NO_CIRCUIT
from eth_account.signers.local import LocalAccount
from stage import PRICE, until

from guardian.sandbox.buyer_py import buy_now
from guardian.sandbox.world import RunningGuardian, SellerKind, World, buy_ts

pytestmark = pytest.mark.e2e

BASE = {1: "base", 2: "eip155:8453"}
USDC_ON_BASE = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
Change = Callable[[dict[str, Any]], None]


def names_another_domain(demand: dict[str, Any]) -> None:
    demand["accepts"][0]["extra"]["name"] = "USD Coin"


def offers_base_first(demand: dict[str, Any]) -> None:
    """A chain that the seller's facilitator does not serve: a payment there would buy nothing."""
    own = demand["accepts"][0]
    more = {"network": BASE[demand["x402Version"]], "asset": USDC_ON_BASE}
    extra = {"extra": own["extra"] | {"name": "USD Coin"}}
    demand["accepts"].insert(0, own | more | extra)


@contextmanager
def changed(seller_url: str, change: Change, *, instead_of_goods: int = 200) -> Iterator[str]:
    """A seller's own server behind one that changes its demands, and the status of what was paid for; the
    URL of that."""

    class Front(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            request = urllib.request.Request(seller_url + self.path, headers=headers)
            try:
                reply = urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as refusal:
                reply = refusal
            self._pass(reply.status, list(reply.headers.items()), reply.read())

        def _pass(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            if status == 200:
                status = instead_of_goods
            if status == 402:
                headers = [(name, self._header(name, value)) for name, value in headers]
                if b'"accepts"' in body:
                    body = self._changed(body)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _header(self, name: str, value: str) -> str:
            if name.lower() != "payment-required":
                return value
            return base64.b64encode(self._changed(base64.b64decode(value))).decode()

        def _changed(self, text: bytes) -> bytes:
            demand = json.loads(text)
            change(demand)
            return json.dumps(demand).encode()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


CHANGES: dict[str, Change] = {"wrong": names_another_domain, "second": offers_base_first}
SELLERS: dict[str, SellerKind] = {"v2": "py", "v1": "v1"}
UNREACHABLE = "  eip155:8453: {rpc: ['http://127.0.0.1:1']}"


@pytest.fixture(scope="module")
def guardian(world: World) -> Iterator[RunningGuardian]:
    """A route to each seller behind each change: `wrong-v2`, …; `prefers-v2` prefers the sandbox' network
    and looks at no health; `charges` settles and then answers 422."""
    facilitator = world.facilitators[0].url
    routes = []
    with _fronts(world, facilitator) as fronts:
        fronts["charges"] = fronts.pop("charges-v2")
        for name, url in fronts.items():
            routes.append(f"  - {{name: {name}, upstream: '{url}'}}")
        for version in SELLERS:
            offers = "offers: {prefer: [base-sepolia], unhealthy: off}"
            routes.append(
                f"  - {{name: prefers-{version}, upstream: '{fronts[f'second-{version}']}', {offers}}}"
            )
            offers = "offers: {unhealthy: off}"
            routes.append(
                f"  - {{name: asis-{version}, upstream: '{fronts[f'second-{version}']}', {offers}}}"
            )
        lines = (UNREACHABLE, HOLDS["impatient"], NO_CIRCUIT, "routes:", *routes)
        yield world.start_guardian(
            world.policy_text(settlement_timeout="3s", network_lines=("block_time: 1s",), lines=lines)
        )


@contextmanager
def _fronts(world: World, facilitator: str) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        found = {}
        for version, kind in SELLERS.items():
            seller = world.start_seller(kind, facilitator).url.removesuffix("/weather")
            for name, change in CHANGES.items():
                found[f"{name}-{version}"] = stack.enter_context(changed(seller, change))
            charges = changed(seller, lambda demand: None, instead_of_goods=422)
            found[f"charges-{version}"] = stack.enter_context(charges)
        yield found


def bought(client: str, url: str, payer: LocalAccount) -> tuple[int, list[str], Any]:
    """Status, nonces signed, body."""
    if client == "ts":
        told = buy_ts(url, "0x" + bytes(payer.key).hex())
        return told["status"], told["nonces"], told["body"]
    purchase = buy_now(url, payer, timeout_s=60)
    return purchase.status, purchase.nonces, purchase.body


PAIRS = [("py", "v2"), ("ts", "v2"), ("py", "v1")]


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_nothing_is_signed_under_a_domain_that_is_not_the_tokens(
    world: World, guardian: RunningGuardian, client: str, version: str
) -> None:
    payer = world.chain.new_payer()
    status, nonces, body = bought(client, f"{guardian.url}/wrong-{version}/weather", payer)
    assert (status, nonces) == (403, []), body
    assert "extra.name" in str(body)
    assert world.chain.transfers(payer=payer.address) == []


@pytest.mark.parametrize("route", ["prefers", "second"])
@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_client_pays_on_the_network_that_it_is_offered_first(
    world: World, guardian: RunningGuardian, client: str, version: str, route: str
) -> None:
    """By the policy's order, and by health: no node of Base answers here."""
    payer = world.chain.new_payer()
    url = f"{guardian.url}/{route}-{version}/weather?for={payer.address}"
    status, nonces, body = bought(client, url, payer)
    assert (status, len(nonces)) == (200, 1), body
    (transfer,) = world.chain.transfers(payer=payer.address)
    assert transfer.amount == PRICE

    def shown() -> dict[str, Any] | None:
        page = guardian.get("/api/settlements?limit=1000")["settlements"]
        mine = [one for one in page if one["payer"] == payer.address.lower() and one["plane"] == "agent"]
        return mine[0] if mine else None

    record = until(shown)
    assert record is not None
    assert (record["network"], record["pay_to"]) == (world.chain.network, transfer.pay_to.lower())
    assert BASE[2 if version == "v2" else 1] in record["events"][0]["note"]


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_without_the_order_the_same_client_signs_for_the_other_network(
    world: World, guardian: RunningGuardian, client: str, version: str
) -> None:
    payer = world.chain.new_payer()
    url = f"{guardian.url}/asis-{version}/weather?for={payer.address}"
    status, nonces, _ = bought(client, url, payer)
    assert (status != 200, len(nonces) >= 1) == (True, True)
    assert world.chain.transfers(payer=payer.address) == []


def test_the_diagnosis_names_the_network_that_cannot_be_followed(guardian: RunningGuardian) -> None:
    networks = {one["network"]: one for one in guardian.get("/api/diagnosis")["networks"]}
    assert not networks["eip155:8453"]["healthy"]
    assert networks["eip155:84532"]["healthy"]


def test_a_seller_that_charges_and_refuses_is_named_with_its_payment(
    world: World, guardian: RunningGuardian
) -> None:
    payer = world.chain.new_payer()
    status, nonces, body = bought("py", f"{guardian.url}/charges/weather?for={payer.address}", payer)
    assert (status, len(nonces)) == (503, 1), body

    def told() -> list[dict[str, Any]]:
        found = guardian.get("/api/diagnosis")["found"]
        return [one for one in found if one["kind"] == "charged_on_4xx"]

    (one,) = until(told)
    assert (one["routes"], one["count"], one["last_settlement"]) == (["charges"], 1, body["payment"])
    assert one["host"].startswith("127.0.0.1:")
    assert len(world.chain.transfers(payer=payer.address)) == 1
