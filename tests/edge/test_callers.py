"""Who may call the data port: keys, names that a proxy vouches for, paces, and caps."""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardian.edge import callers as module
from guardian.edge import facilitator_plane
from guardian.edge.callers import Door, Refusal, RefusalLog
from guardian.errors import PolicyError
from guardian.policy.callers import CallersPolicy
from guardian.policy.load import parse_policy
from guardian.policy.model import Policy
from tests.edge.edge_stage import Stage, client
from tests.flow.scene import refused, signed_payment

KEY, OTHER = "k" * 32, "o" * 32
ENVIRON = {"SHOP_KEY": KEY, "OTHER_KEY": OTHER, "SHORT": "abc"}
SHOP: dict[str, Any] = {"name": "shop", "key": {"env": "SHOP_KEY"}}
KNOWN: dict[str, Any] = {"require": "key", "keys": [SHOP]}
PROXIED = {"mtls_name_header": "x-client-cert-name", "trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A door, the policy before it, and what was told of those turned away."""

    def __init__(self, environ: dict[str, str] | None = None, **section: Any) -> None:
        self.told: list[tuple[str, str]] = []
        self.clock = Clock()
        self.policy = CallersPolicy.model_validate(section)
        self.door = Door(
            environ or ENVIRON, clock=self.clock, on_refusal=lambda why, who: self.told.append((why, who))
        )

    def enter(self, *headers: tuple[str, str], peer: str = "192.0.2.1") -> module.Entry:
        """One request, which stays inside until it is left."""
        raw = [(name.encode(), value.encode()) for name, value in headers]
        return self.door.enter(self.policy, {"headers": raw, "client": (peer, 5000)})

    def passes(self, *headers: tuple[str, str], peer: str = "192.0.2.1") -> Refusal | None:
        """One request that comes and goes; what it was refused with."""
        with self.enter(*headers, peer=peer) as entry:
            return entry.refusal

    def status(self, *headers: tuple[str, str], peer: str = "192.0.2.1") -> int:
        refusal = self.passes(*headers, peer=peer)
        return refusal.status if refusal else 200


def shown(key: str) -> tuple[str, str]:
    return ("x-guardian-key", key)


# --- keys


def test_only_a_known_key_comes_in() -> None:
    gate = Gate(**KNOWN)
    assert gate.status(shown(KEY)) == 200
    assert gate.status() == gate.status(shown("x" * 32)) == gate.status(shown(KEY + "a")) == 401
    assert gate.status(shown("")) == gate.status(("authorization", KEY)) == 401


def test_a_refusal_names_the_header_and_never_the_key() -> None:
    refusal = Gate(**KNOWN).passes(shown("guess" * 5))
    assert refusal is not None
    assert refusal.field == "x-guardian-key"
    assert "header x-guardian-key" in refusal.cure
    assert dict(refusal.headers) == {b"www-authenticate": b'Key header="x-guardian-key"'}
    assert "guess" not in repr(refusal)


def test_two_keys_at_once_are_none() -> None:
    assert Gate(**KNOWN).status(shown(KEY), shown(OTHER)) == 401
    assert Gate(**KNOWN).status(shown(KEY), shown(KEY)) == 401


def test_each_of_several_keys_is_good() -> None:
    gate = Gate(require="key", keys=[SHOP, {"name": "other", "key": {"env": "OTHER_KEY"}}])
    assert gate.status(shown(KEY)) == gate.status(shown(OTHER)) == 200


def test_a_key_in_a_header_of_the_operators_choice() -> None:
    gate = Gate(**KNOWN, header="X-Shop")
    assert gate.status(("x-shop", KEY)) == 200
    assert gate.status(shown(KEY)) == 401


def test_keys_are_compared_whole_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    gate = Gate(require="key", keys=[SHOP, {"name": "other", "key": {"env": "OTHER_KEY"}}])
    assert gate.status(shown(KEY)) == 200
    assert len(compared) == 2  # the second one too, although the first was right
    assert all(len(one) == len(other) == 32 for one, other in compared)


def test_a_key_that_is_replaced_in_its_file_holds_within_a_second(tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_text(KEY + "\n")
    gate = Gate(require="key", keys=[{"name": "agent-7", "key": {"file": str(place)}}])
    assert gate.status(shown(KEY)) == 200
    place.write_text(OTHER)
    os.utime(place, ns=(1, 1))
    gate.clock.now += module.RECHECK_S
    assert gate.status(shown(OTHER)) == 200
    assert gate.status(shown(KEY)) == 401
    place.write_text("")  # the middle of a rotation: the last good one stays
    gate.clock.now += module.RECHECK_S
    assert gate.status(shown(OTHER)) == 200


def test_an_old_and_a_new_key_of_one_name_are_both_good_and_count_as_one() -> None:
    keys = [SHOP, {"name": "shop", "key": {"env": "OTHER_KEY"}}]
    gate = Gate(require="key", keys=keys, pace="1 per h")
    assert gate.status(shown(KEY)) == 200
    assert gate.status(shown(OTHER)) == 429


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"env": "NOBODY"}, "the environment variable NOBODY is not set"),
        ({"env": "SHORT"}, "fewer than 16 characters"),
        ({"file": "/nowhere/key"}, "cannot read the file /nowhere/key"),
    ],
)
def test_a_key_that_cannot_be_had_is_refused_at_the_start(key: Any, said: str) -> None:
    gate = Gate(require="key", keys=[SHOP, {"name": "a", "key": key}])
    with pytest.raises(PolicyError, match=said) as caught:
        gate.door.use(gate.policy)
    assert "callers.keys[1].key" in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_policy_whose_keys_cannot_be_read_lets_nobody_in() -> None:
    gate = Gate({"OTHER_KEY": OTHER}, **KNOWN)
    assert gate.status(shown(KEY)) == gate.status() == 503
    assert gate.told[0][0] == "keys"


# --- certificates


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::7"])
def test_a_trusted_proxy_may_name_the_holder_of_a_certificate(peer: str) -> None:
    gate = Gate(require="certificate", **PROXIED)
    assert gate.status(("x-client-cert-name", "CN=agent-7"), peer=peer) == 200


@pytest.mark.parametrize("peer", ["192.0.2.1", "", "unix", "11.0.0.1"])
def test_anybody_else_who_names_one_is_nobody(peer: str) -> None:
    gate = Gate(require="certificate", **PROXIED)
    assert gate.status(("x-client-cert-name", "CN=agent-7"), peer=peer) == 401


@pytest.mark.parametrize("names", [[], [""], ["a", "b"], ["a" * 300], ["a\x07"]])
def test_a_name_must_be_one_and_readable(names: list[str]) -> None:
    gate = Gate(require="certificate", **PROXIED)
    assert gate.status(*(("x-client-cert-name", name) for name in names), peer="10.0.0.1") == 401


def test_either_will_do_where_the_policy_says_so() -> None:
    gate = Gate(require="either", keys=[SHOP], **PROXIED)
    assert gate.status(shown(KEY)) == 200
    assert gate.status(("x-client-cert-name", "agent"), peer="10.0.0.1") == 200
    assert gate.status() == 401


def test_a_certificate_is_no_key_and_a_key_no_certificate() -> None:
    assert Gate(**KNOWN, **PROXIED).status(("x-client-cert-name", "agent"), peer="10.0.0.1") == 401
    assert Gate(require="certificate", keys=[SHOP], **PROXIED).status(shown(KEY), peer="10.0.0.1") == 401


# --- what is sent on


def test_what_is_meant_for_the_guardian_is_not_sent_on() -> None:
    gate = Gate(**KNOWN, **PROXIED)
    with gate.enter(shown(KEY), ("x-client-cert-name", "admin"), ("x-a", "1"), ("x-a", "2")) as entry:
        assert entry.headers == [(b"x-a", b"1"), (b"x-a", b"2")]


# --- paces


def test_a_caller_over_its_pace_is_told_when_to_come_again() -> None:
    gate = Gate(pace="3 per s")
    assert [gate.status() for _ in range(4)] == [200, 200, 200, 429]
    refusal = gate.passes()
    assert refusal is not None
    assert dict(refusal.headers) == {b"retry-after": b"1"}
    gate.clock.now += 1 / 3 + 0.01
    assert [gate.status() for _ in range(2)] == [200, 429]
    gate.clock.now += 3600
    assert [gate.status() for _ in range(4)] == [200, 200, 200, 429]


def test_the_time_to_wait_is_enough() -> None:
    gate = Gate(pace="1 per h")
    gate.passes()
    gate.clock.now += 12.5
    refusal = gate.passes()
    assert refusal is not None
    assert refusal.retry_s == 3588
    gate.clock.now += refusal.retry_s
    assert gate.passes() is None


def test_refused_requests_do_not_use_up_the_pace() -> None:
    gate = Gate(pace="1 per s")
    assert [gate.status() for _ in range(50)][1:] == [429] * 49
    gate.clock.now += 1.01
    assert gate.status() == 200


def test_callers_have_paces_of_their_own() -> None:
    keys = [SHOP, {"name": "other", "key": {"env": "OTHER_KEY"}}]
    gate = Gate(pace="1 per h", keys=keys)
    assert [gate.status(), gate.status(peer="192.0.2.2"), gate.status(shown(KEY))] == [200] * 3
    assert [gate.status(), gate.status(peer="192.0.2.2"), gate.status(shown(KEY))] == [429] * 3
    assert gate.status(shown(OTHER)) == 200
    assert gate.told[-1] == ("pace", "key:shop")


def test_one_ipv6_subscriber_is_one_caller() -> None:
    gate = Gate(pace="1 per h")
    assert gate.status(peer="2001:db8:1:2::1") == 200
    assert gate.status(peer="2001:db8:1:2:ffff::9") == 429
    assert gate.status(peer="2001:db8:1:3::1") == 200


def test_behind_a_trusted_proxy_a_caller_is_the_address_that_it_saw() -> None:
    gate = Gate(pace="1 per h", trusted_proxies=["10.0.0.0/8"])
    forged = ("x-forwarded-for", "1.1.1.1, 198.51.100.7, 10.0.0.9")
    assert gate.status(forged, peer="10.0.0.1") == 200
    assert gate.status(("x-forwarded-for", "2.2.2.2, 198.51.100.7"), peer="10.0.0.1") == 429
    assert gate.status(("x-forwarded-for", "198.51.100.8"), peer="10.0.0.1") == 200
    assert gate.status(("x-forwarded-for", "nonsense"), peer="10.0.0.1") == 200  # the proxy itself
    assert gate.status(("x-forwarded-for", "3.3.3.3"), peer="198.51.100.7") == 429  # not from a proxy


def test_no_number_of_callers_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLERS", 100)
    gate = Gate(pace="1 per h", max_open=5)
    for number in range(1000):
        assert gate.status(peer=f"192.0.{number // 250}.{number % 250}") == 200
    assert len(gate.door._accounts) == 100


def test_a_caller_that_is_inside_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLERS", 10)
    gate = Gate(max_open=1)
    inside = gate.enter(peer="192.0.2.9")
    for number in range(100):
        gate.passes(peer=f"198.51.100.{number}")
    assert gate.status(peer="192.0.2.9") == 429
    inside.__exit__(None, None, None)
    assert gate.status(peer="192.0.2.9") == 200


# --- caps


def test_open_requests_of_one_caller_are_capped() -> None:
    gate = Gate(max_open=2)
    first, second = gate.enter(), gate.enter()
    assert (first.refusal, second.refusal) == (None, None)
    assert gate.status() == 429
    assert gate.status(peer="192.0.2.2") == 200
    first.__exit__(None, None, None)
    assert gate.status() == 200


def test_open_requests_of_all_callers_are_capped() -> None:
    gate = Gate(max_open_all=2)
    inside = [gate.enter(peer=f"192.0.2.{number}") for number in (1, 2)]
    refusal = gate.passes(peer="192.0.2.3")
    assert refusal is not None
    assert (refusal.status, dict(refusal.headers)) == (503, {b"retry-after": b"1"})
    for entry in inside:
        entry.__exit__(None, None, None)
    assert (gate.door.open, gate.status()) == (0, 200)


# --- in the log


def test_callers_turned_away_are_logged_sparingly(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    counted: list[str] = []
    log = RefusalLog(facilitator_plane.log, counted.append, clock=clock)
    for _ in range(5):
        log("pace", "key:shop")
    log("unknown", "")
    clock.now += module.LOG_EVERY_S
    log("pace", "key:shop")
    told = [(line.__dict__["why"], line.__dict__["count"]) for line in caplog.records]
    assert told == [("pace", 1), ("unknown", 1), ("pace", 5)]
    assert (counted.count("pace"), counted.count("unknown")) == (6, 1)


# --- in the policy


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{require: key}", "there are no keys"),
        ("{require: certificate}", "needs mtls_name_header"),
        ("{require: either}", "there is neither"),
        ("{mtls_name_header: x-name}", "needs trusted_proxies"),
        ("{header: authorization}", "has another meaning"),
        ("{header: x-a, mtls_name_header: x-a, trusted_proxies: [10.0.0.1]}", "could name itself"),
        ("{trusted_proxies: [10.0.0.1/8]}", "is not an IP address"),
        ("{trusted_proxies: [proxy.example]}", "is not an IP address"),
        ("{keys: [{name: a, key: hunter2-hunter2-hunter2}]}", "a secret never stands in this file"),
        ("{max_open: 0}", "too small"),
        ("{pace: 50}", "is not a pace"),
        ("{maxopen: 5}", "did you mean max_open"),
    ],
)
def test_a_section_that_cannot_be_obeyed_is_refused_with_its_line(section: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"version: 1\nfacilitators: [{{name: a, url: http://a}}]\ncallers: {section}\n")
    assert said in str(caught.value)
    assert caught.value.line == 3
    assert "hunter2" not in str(caught.value)


def test_a_whole_section_loads() -> None:
    policy = parse_policy(
        """\
version: 1
facilitators: [{name: a, url: http://a}]
callers:
  require: either
  header: X-Guardian-Key
  keys: [{name: shop, key: {env: SHOP_KEY}}, {name: agent-7, key: {file: /run/secrets/agent7}}]
  mtls_name_header: x-client-cert-name
  trusted_proxies: [10.0.0.7, "fd00::/8"]
  pace: 50 per s
  max_open: 200
  max_open_all: 2000
"""
    )
    assert policy.callers.header == "x-guardian-key"
    assert policy.callers.active
    assert not parse_policy("version: 1\nfacilitators: [{name: a, url: http://a}]\n").callers.active


# --- on the data port


@pytest.fixture(autouse=True)
def _environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


def play(script: Callable[[Stage, httpx.AsyncClient], Awaitable[None]], **section: Any) -> None:
    stage = Stage()

    async def guarded(stage: Stage, http: httpx.AsyncClient) -> None:
        await put(stage, **section)
        stage.requests.clear()
        await script(stage, http)

    stage.play(guarded)


async def put(stage: Stage, **section: Any) -> None:
    """Another policy comes into force, as when its file changes."""
    now = stage.guardian.parts.policy
    await stage.guardian.adopt(now.model_copy(update={"callers": CallersPolicy.model_validate(section)}))


@pytest.mark.parametrize("path", ["/settle", "/verify", "/supported", "/payments/pay_1", "/discovery", "/"])
def test_a_caller_without_a_key_is_told_the_cure_and_reaches_nothing(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        method = "POST" if path in ("/settle", "/verify") else "GET"
        reply = await http.request(method, path, content=signed_payment())
        told = reply.json()
        assert (reply.status_code, told["field"]) == (401, "x-guardian-key")
        assert "x-guardian-key" in told["cure"]
        assert stage.requests == []
        if path == "/settle":
            shape = {"success": False, "errorReason": "unknown_caller", "transaction": "", "network": ""}
            assert shape.items() <= told.items()
        if path == "/verify":
            assert {"isValid": False, "invalidReason": "unknown_caller", "payer": ""}.items() <= told.items()

    play(script, **KNOWN)


def test_a_known_caller_pays_and_its_key_is_not_sent_on() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        for path in ("/verify", "/settle"):
            reply = await http.post(path, content=signed_payment(), headers={"X-Guardian-Key": KEY})
            assert reply.status_code == 200
        await http.get("/discovery", headers={"X-Guardian-Key": KEY})
        assert len(stage.requests) == 3
        assert all(KEY not in str(request.headers.raw) for request in stage.requests)

    play(script, **KNOWN)


def test_a_new_policy_holds_from_the_next_request_on() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        assert (await http.post("/verify", content=signed_payment())).status_code == 200
        await put(stage, **KNOWN)
        assert (await http.post("/verify", content=signed_payment())).status_code == 401
        await put(stage, require="off", pace="1 per h")
        assert [(await http.get("/supported")).status_code for _ in range(2)] == [200, 429]

    play(script)


def test_callers_turned_away_are_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        for _ in range(2):
            await http.post("/settle", content=signed_payment())
        await put(stage, require="off", pace="1 per h")
        for _ in range(2):
            await http.get("/supported")
        await put(stage)
        monkeypatch.setattr(facilitator_plane, "MAX_OPEN_SETTLEMENTS", 0)
        assert (await http.post("/settle", content=signed_payment())).status_code == 503
        page = stage.guardian.parts.telemetry.metrics_page()[0].decode()
        counted = dict(re.findall(r'^guardian_callers_refused_total\{reason="(\w+)"\} (\S+)$', page, re.M))
        assert counted == {"unknown": "2.0", "pace": "1.0", "settlements": "1.0"}

    play(script, **KNOWN)


@pytest.mark.parametrize("path", ["/settle", "/verify"])
def test_a_caller_over_its_pace_hears_a_complete_body_and_nothing_is_sent(path: str) -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        assert (await http.get("/supported")).status_code == 200
        reply = await http.post(path, content=signed_payment())
        told = reply.json()
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "3600")
        assert told["errorReason" if path == "/settle" else "invalidReason"] == "too_many_requests"
        assert (told["success"] if path == "/settle" else told["isValid"]) is False
        assert stage.requests == []
        assert await stage.store.page() == []

    play(script, pace="1 per h")


def test_a_repeat_of_a_payment_under_way_is_never_turned_away() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        free, ordinary = asyncio.Event(), stage.replies["settle"]

        async def slow(request: httpx.Request) -> httpx.Response:
            await free.wait()
            return httpx.Response(200, content=ordinary.content)

        stage.replies["settle"] = slow
        first = asyncio.create_task(http.post("/settle", content=signed_payment()))
        while not stage.requests:
            await asyncio.sleep(0)
        second = asyncio.create_task(http.post("/settle", content=signed_payment()))
        other = await http.post("/settle", content=signed_payment(2))
        assert other.status_code == 429
        free.set()
        replies = [await first, await second]
        assert [reply.status_code for reply in replies] == [200, 200]
        assert sorted(reply.json()["success"] for reply in replies) == [False, True]
        assert [reply.json().get("errorReason") for reply in replies].count("duplicate_settlement") == 1
        assert len(stage.requests) == 1

    play(script, pace="1 per h")


def test_a_refused_repeat_still_has_its_body_bounded() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await http.get("/supported")
        reply = await http.post("/settle", content=b" " * 2 * 1024 * 1024)
        assert reply.status_code == 413

    play(script, pace="1 per h")


def test_a_caller_that_has_gone_gives_its_place_back() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        stage.replies["settle"] = refused("invalid_exact_evm_payload_signature")
        for number in range(5):
            assert (await http.post("/settle", content=signed_payment(number))).status_code == 200
            assert (await http.post("/settle", content=b"{")).status_code == 400

    play(script, max_open=1, max_open_all=1)


def test_open_settlements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facilitator_plane, "MAX_OPEN_SETTLEMENTS", 1)

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        free, ordinary = asyncio.Event(), stage.replies["settle"]

        async def slow(request: httpx.Request) -> httpx.Response:
            await free.wait()
            return httpx.Response(200, content=ordinary.content)

        stage.replies["settle"] = slow
        first = asyncio.create_task(http.post("/settle", content=signed_payment()))
        while not stage.requests:
            await asyncio.sleep(0)
        reply = await http.post("/settle", content=signed_payment(2))
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert reply.json()["errorReason"] == "guardian_busy"
        assert (await http.post("/verify", content=signed_payment(2))).status_code == 200
        again = asyncio.create_task(http.post("/settle", content=signed_payment()))
        await asyncio.sleep(0)
        free.set()
        assert {(await first).status_code, (await again).status_code} == {200}
        assert (await http.post("/settle", content=signed_payment(3))).status_code == 200

    Stage().play(script)


def test_the_operations_port_asks_for_no_key() -> None:
    stage = Stage()

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await put(stage, **KNOWN)
        async with client(stage.guardian.operations) as operators:
            assert (await operators.get("/healthz")).status_code == 200
            assert (await operators.get("/metrics")).status_code == 200

    stage.play(script)


def test_a_guardian_does_not_start_without_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_KEY")
    stage = Stage()
    policy = json.loads(stage.guardian.parts.policy.model_dump_json(by_alias=True, include={"version"}))
    policy |= {"facilitators": [{"name": "main", "url": "http://f"}], "callers": KNOWN}
    from guardian.app import build

    with pytest.raises(PolicyError, match="SHOP_KEY is not set"):
        build(Policy.model_validate(policy), stage.store)
