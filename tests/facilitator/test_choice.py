"""Which facilitators are asked, and what they support together."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from guardian import errors
from guardian.facilitator.choice import FRESH_S, RETRY_S, Facilitators
from guardian.facilitator.circuit import CircuitKey, Circuits
from guardian.facilitator.client import Facilitator, Reply
from guardian.settlement.classify import Health

BASE = "eip155:8453"


def kind(network: str, scheme: str = "exact", version: int = 2, **extra: object) -> dict[str, Any]:
    return {"x402Version": version, "scheme": scheme, "network": network, **extra}


def says(*kinds: dict[str, Any], **more: object) -> bytes:
    return json.dumps({"kinds": list(kinds), **more}).encode()


class Script:
    """Facilitators `a`, `b`, … whose /supported is what the test last put into `says`."""

    def __init__(self, *answers: bytes | int | Exception) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.held: asyncio.Event | None = None
        self.says = dict(zip("abcdef", answers, strict=False))
        self.circuits = Circuits(
            lambda: self.now, failure_threshold=1, recovery_time_s=30.0, half_open_trials=1
        )
        transport = httpx.MockTransport(self._answer)
        members = [Facilitator(name, f"http://{name}.test", transport=transport) for name in self.says]
        self.all = Facilitators(members, self.circuits, clock=lambda: self.now)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host[0]
        self.asked.append(name)
        if self.held is not None:
            await self.held.wait()
        answer = self.says[name]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, content=b"no")
        return httpx.Response(
            200, content=answer, headers={"content-type": "application/json", "x-own": name}
        )

    def supported(self) -> Reply:
        return asyncio.run(self.all.supported())

    def candidates(self, network: str = BASE, scheme: str = "exact", version: int | None = None) -> str:
        found = self.all.candidates(network, scheme, "settle", x402_version=version)
        return "".join(facilitator.name for facilitator in found)

    def trip(self, name: str, network: str = BASE) -> None:
        ticket = self.circuits.admit(CircuitKey(name, network, "settle"))
        assert ticket is not None
        self.circuits.record(ticket, Health.FAULTY)


def test_candidates_stand_in_the_policys_order() -> None:
    assert Script(b"", b"", b"").candidates() == "abc"


def test_open_circuit_takes_its_facilitator_out_until_a_trial_is_due() -> None:
    script = Script(b"", b"")
    script.trip("a")
    assert script.candidates() == "b"
    assert script.candidates("eip155:1") == "ab"
    script.now += 30.0
    assert script.candidates() == "ab"


def test_looking_for_candidates_takes_no_trial() -> None:
    script = Script(b"")
    script.trip("a")
    script.now += 30.0
    assert [script.candidates() for _ in range(3)] == ["a", "a", "a"]


def test_all_circuits_open_leaves_nobody() -> None:
    script = Script(b"", b"")
    script.trip("a")
    script.trip("b")
    assert script.candidates() == ""


def test_facilitator_that_does_not_support_the_kind_is_left_out() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    assert script.candidates(BASE) == "a"
    assert script.candidates("eip155:1") == "b"
    assert script.candidates("eip155:1", version=2) == "b"


def test_wildcard_supports_every_network_of_its_family() -> None:
    script = Script(says(kind("solana:*")), says(kind("eip155:*")))
    script.supported()
    assert script.candidates("eip155:424242") == "b"


def test_v1_names_stand_for_their_networks() -> None:
    script = Script(says(kind(BASE, version=2)), says(kind("base", version=1)))
    script.supported()
    assert script.candidates(BASE, version=1) == "b"
    assert script.candidates(BASE, version=2) == "a"
    assert script.candidates(BASE) == "ab"


def test_unread_supported_keeps_a_facilitator_in() -> None:
    script = Script(says(kind("eip155:1")), 500)
    script.supported()
    assert script.candidates(BASE) == "b"


def test_kind_that_nobody_claims_goes_to_the_first() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    assert script.candidates("near:mainnet", "new-scheme") == "a"


def test_payment_is_not_sent_to_one_that_cannot_take_it_because_the_other_is_down() -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    script.supported()
    script.trip("a")
    assert script.candidates(BASE) == ""


def test_facilitator_is_found_by_name() -> None:
    script = Script(b"", b"")
    found = script.all.named("b")
    assert found is not None
    assert found.url == "http://b.test"
    assert script.all.named("x") is None


def test_single_supported_is_passed_byte_for_byte() -> None:
    odd = b'{ "kinds" : [ ],\n "new": 1.0 }'
    reply = Script(odd).supported()
    assert (reply.status, reply.body) == (200, odd)
    assert (b"x-own", b"a") in [(name.lower(), value) for name, value in reply.headers]


def test_supported_of_all_is_merged_and_the_first_word_counts() -> None:
    script = Script(
        says(kind(BASE, extra={"by": "a"}), extensions=["x"], signers={"eip155:*": ["0xa"]}, own=1),
        says(kind(BASE, extra={"by": "b"}), kind("eip155:1"), extensions=["x", "y"]),
        says(kind("base", version=1), signers={"eip155:*": ["0xa", "0xc"], "solana:*": ["S"]}),
    )
    reply = script.supported()
    assert json.loads(reply.body) == {
        "kinds": [kind(BASE, extra={"by": "a"}), kind("eip155:1"), kind("base", version=1)],
        "extensions": ["x", "y"],
        "signers": {"eip155:*": ["0xa", "0xc"], "solana:*": ["S"]},
        "own": 1,
    }
    assert reply.headers == [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    "odd", [says(), b'{"kinds":[1,null,{"scheme":2}],"extensions":7,"signers":{"a":1}}', b'{"kinds":[[]]}']
)
def test_odd_supported_is_merged_without_a_fault(odd: bytes) -> None:
    script = Script(odd, says(kind(BASE)))
    assert kind(BASE) in json.loads(script.supported().body)["kinds"]


def test_supported_is_asked_once_while_it_is_fresh() -> None:
    script = Script(says(kind(BASE)), says())
    script.supported()
    script.now += FRESH_S - 1
    script.supported()
    assert script.asked == ["a", "b"]
    script.now += 1
    script.supported()
    assert script.asked == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    "down", [httpx.ConnectError("x"), httpx.ReadError("x"), 503, b"<html>", b"[]", b"{}"]
)
def test_last_good_supported_outlives_its_facilitator(down: bytes | int | Exception) -> None:
    script = Script(says(kind(BASE)), says(kind("eip155:1")))
    before = script.supported().body
    script.says["b"] = down
    script.now += FRESH_S * 100
    assert script.supported().body == before
    assert script.candidates("eip155:1") == "b"


def test_facilitator_that_is_down_is_not_asked_by_every_caller() -> None:
    script = Script(says(kind(BASE)))
    script.supported()
    script.says["a"] = httpx.ReadError("x")
    script.now += FRESH_S
    for _ in range(5):
        script.supported()
    assert script.asked == ["a", "a"]
    script.now += RETRY_S
    script.says["a"] = says()
    assert script.supported().body == says()


def test_facilitator_that_comes_up_late_joins_in() -> None:
    script = Script(says(kind(BASE)), httpx.ConnectError("x"))
    assert script.supported().body == says(kind(BASE))
    script.says["b"] = says(kind("eip155:1"))
    script.now += RETRY_S
    assert len(json.loads(script.supported().body)["kinds"]) == 2


def test_without_a_good_answer_the_first_reply_passes() -> None:
    reply = Script(httpx.ConnectError("x"), 401, 500).supported()
    assert (reply.status, reply.body) == (401, b"no")


@pytest.mark.parametrize(
    ("raised", "meant"),
    [(httpx.ConnectError("x"), errors.NotSent), (httpx.ReadError("x"), errors.ReplyLost)],
)
def test_without_any_reply_the_first_error_passes(
    raised: Exception, meant: type[errors.GuardianError]
) -> None:
    script = Script(raised, httpx.PoolTimeout("x"))
    with pytest.raises(meant):
        script.supported()


def test_callers_at_once_share_one_flight() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> list[Reply]:
        return await asyncio.gather(*(script.all.supported() for _ in range(20)))

    assert len({reply.body for reply in asyncio.run(run())}) == 1
    assert script.asked == ["a"]


def test_caller_that_leaves_does_not_end_the_flight_of_the_others() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> Reply:
        script.held = asyncio.Event()
        leaver = asyncio.create_task(script.all.supported())
        stayer = asyncio.create_task(script.all.supported())
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        script.held.set()
        return await stayer

    assert asyncio.run(run()).status == 200
    assert script.asked == ["a"]


def test_closing_ends_a_flight() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> None:
        script.held = asyncio.Event()
        caller = asyncio.create_task(script.all.supported())
        await asyncio.sleep(0)
        await script.all.close()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(run())
