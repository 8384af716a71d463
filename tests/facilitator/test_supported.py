"""What all facilitators support together: asked, kept, refreshed and merged."""

import asyncio
import contextlib
import json
import timeit
from collections.abc import Sequence

import httpx
import pytest

from guardian import errors
from guardian.facilitator import catalogue
from guardian.facilitator.catalogue import FRESH_S, REFRESH_TIMEOUT_S, RETRY_S, STALE_S
from guardian.facilitator.circuit import CircuitKey
from guardian.facilitator.client import Facilitator, RawHeaders, Reply
from guardian.facilitator.supported import MAX_ENTRIES, Supported, merge, read_supported
from guardian.settlement.verdict import Health
from tests.facilitator.choice_stage import BASE, MAINNET, Script, kind, says
from tests.facilitator.virtual_time import play


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


def test_silent_facilitator_is_not_asked_by_every_caller_while_another_has_answered() -> None:
    script = Script(says(kind(BASE)), httpx.ReadError("x"))
    script.supported()
    for _ in range(3):
        script.supported()
    assert script.asked == ["a", "b"]


def test_start_reads_what_everyone_supports() -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))

    async def run() -> str:
        await script.all.start()
        await script.all.stop()
        return script.candidates(MAINNET)

    assert play(script, run()) == "b"
    assert script.asked == ["a", "b"]


def test_start_waits_for_nobody_who_is_silent() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> None:
        script.held = asyncio.Event()
        await script.all.start()
        await script.all.stop()

    play(script, run())
    assert script.now == pytest.approx(REFRESH_TIMEOUT_S)
    assert script.candidates(MAINNET) == "a"


def test_answers_are_kept_fresh_so_that_callers_never_wait() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> None:
        await script.all.start()
        for _ in range(100):
            await asyncio.sleep(FRESH_S / 10)
            assert (await script.all.supported([(b"authorization", b"a caller's")])).status == 200
        await script.all.close()

    play(script, run())
    assert {credentials for _, credentials in script.sent} == {""}
    assert len(script.asked) <= 1 + 10 * FRESH_S / (FRESH_S - 3 * RETRY_S)


def test_facilitator_that_comes_up_is_noticed_without_any_caller() -> None:
    script = Script(says(kind(BASE)), httpx.ConnectError("x"))

    async def run() -> str:
        await script.all.start()
        script.says["b"] = says(kind(BASE), kind(MAINNET))
        await asyncio.sleep(2 * RETRY_S)
        await script.all.stop()
        return script.candidates(MAINNET)

    assert play(script, run()) == "b"


def test_nothing_is_asked_after_the_end() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> None:
        await script.all.start()
        await script.all.start()
        await script.all.stop()
        await script.all.stop()
        await asyncio.sleep(FRESH_S * 3)

    play(script, run())
    assert script.asked == ["a"]


def test_fault_that_nobody_foresaw_does_not_end_the_refreshing() -> None:
    broken = True

    def headers_for(facilitator: Facilitator, sent: RawHeaders) -> RawHeaders:
        if broken:
            raise KeyError("a credential")
        return sent

    script = Script(says(kind(BASE)), headers_for=headers_for)

    async def run() -> None:
        nonlocal broken
        await script.all.start()
        broken = False
        await asyncio.sleep(RETRY_S * 2)
        await script.all.stop()

    play(script, run())
    assert script.asked == ["a"]
    assert script.faults == [("a", "KeyError('a credential')")]


def test_a_url_that_leads_nowhere_is_told_with_its_cure() -> None:
    script = Script(404)
    script.supported()
    assert script.faults[0][1].endswith("; look whether its url has the whole path, and no more")


def test_fault_is_told_once_until_all_is_well_again() -> None:
    script = Script(503)
    for answer in (503, 503, says(kind(BASE)), 503, 503):
        script.says["a"] = answer
        script.now += FRESH_S
        with contextlib.suppress(errors.GuardianError):
            script.supported()
    assert script.faults == [("a", "status 503 and no list of kinds")] * 2


def test_guardians_own_credentials_go_where_they_belong() -> None:
    def headers_for(facilitator: Facilitator, sent: RawHeaders) -> RawHeaders:
        return sent or [(b"authorization", f"own of {facilitator.name}".encode())]

    script = Script(says(kind(BASE)), says(), headers_for=headers_for)

    async def run() -> None:
        await script.all.start()
        await script.all.stop()

    play(script, run())
    assert script.sent == [("a", "own of a"), ("b", "own of b")]
    script.now += FRESH_S
    script.supported([(b"authorization", b"the caller's")])
    assert script.sent[2:] == [("a", "the caller's"), ("b", "the caller's")]


@pytest.mark.parametrize("status", [401, 403])
def test_caller_with_credentials_is_heard_where_the_guardian_was_refused(status: int) -> None:
    script = Script(says(kind(BASE)), status)

    async def run() -> Reply:
        await script.all.start()
        await asyncio.sleep(RETRY_S * 2)
        script.says["b"] = says(kind(MAINNET))
        reply = await script.all.supported()
        await script.all.stop()
        return reply

    assert len(json.loads(play(script, run()).body)["kinds"]) == 2
    assert script.asked.count("b") == 2


def test_callers_answer_survives_the_end_of_the_refreshing() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> Reply:
        script.held = asyncio.Event()
        caller = asyncio.create_task(script.all.supported())
        await asyncio.sleep(0)
        after, _ = script.all.replaced([script.client("a")])
        await script.all.stop()
        script.held.set()
        reply = await caller
        assert [one.name for one in after.candidates(MAINNET, "exact", "settle")] == ["a"]
        return reply

    assert play(script, run()).status == 200


def test_dead_rail_disappears_alone_and_comes_back_when_a_trial_is_due() -> None:
    script = Script(says(kind(BASE), kind(MAINNET)), says(kind("base", version=1)))
    script.supported()
    script.trip("a", BASE)
    assert script.kinds() == [kind(MAINNET), kind("base", version=1)]
    script.trip("b", BASE)
    assert script.kinds() == [kind(MAINNET)]
    script.now += 30.0
    assert script.kinds() == [kind(BASE), kind(MAINNET), kind("base", version=1)]


def test_rail_is_alive_while_one_facilitator_serves_it_and_is_described_by_that_one() -> None:
    script = Script(
        says(kind(BASE, extra={"feePayer": "a"}), kind(MAINNET)), says(kind(BASE, extra={"feePayer": "b"}))
    )
    script.trip("a", BASE)
    assert script.kinds() == [kind(MAINNET), kind(BASE, extra={"feePayer": "b"})]


def test_open_circuit_of_verify_takes_no_rail_away() -> None:
    script = Script(says(kind(BASE), kind(MAINNET)))
    ticket = script.circuits.admit(CircuitKey("a", BASE, "verify"))
    assert ticket is not None
    script.circuits.record(ticket, Health.FAULTY)
    assert script.kinds() == [kind(BASE), kind(MAINNET)]


def test_dead_rail_of_a_single_facilitator_disappears_and_the_rest_of_its_answer_stays() -> None:
    script = Script(says(kind(BASE), kind(MAINNET), extensions=["x"], own=1))
    script.trip("a", BASE)
    reply = script.supported()
    assert json.loads(reply.body) == {"kinds": [kind(MAINNET)], "extensions": ["x"], "own": 1}
    assert reply.headers == [(b"content-type", b"application/json")]


def test_answer_is_whole_when_every_rail_is_dead() -> None:
    script = Script(says(kind(BASE)), says(kind(BASE)))
    script.trip("a")
    script.trip("b")
    assert script.kinds() == [kind(BASE)]


def test_wildcard_outlives_one_dead_network() -> None:
    script = Script(says(kind("eip155:*"), kind(MAINNET)))
    script.trip("a", BASE)
    assert script.kinds() == [kind("eip155:*"), kind(MAINNET)]


@pytest.mark.parametrize("down", [httpx.ConnectError("x"), httpx.ReadError("x"), 502])
def test_facilitator_that_is_silent_for_long_no_longer_counts(down: int | Exception) -> None:
    script = Script(says(kind(BASE), kind(MAINNET)), says(kind(BASE), kind("eip155:137")))
    script.supported()
    script.says["b"] = down
    script.now += FRESH_S
    assert len(script.kinds()) == 3
    script.now += STALE_S
    assert len(script.kinds()) == 3
    script.now += 1.0
    assert script.kinds() == [kind(BASE), kind(MAINNET)]
    assert script.candidates("eip155:137") == "b"
    script.says["b"] = says(kind("eip155:137"))
    script.now += RETRY_S
    assert script.kinds() == [kind(BASE), kind(MAINNET), kind("eip155:137")]


@pytest.mark.parametrize("alive", [401, 429, b"<html>"])
def test_facilitator_that_still_replies_is_not_silent(alive: int | bytes) -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))
    script.supported()
    script.says["b"] = alive
    for _ in range(10):
        script.now += STALE_S
        assert len(script.kinds()) == 2


def test_facilitator_that_nobody_asked_for_long_is_not_silent() -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))
    script.supported()
    script.says["b"] = httpx.ConnectError("x")
    script.now += STALE_S * 100
    assert len(script.kinds()) == 2


def test_silence_is_counted_from_the_last_reply() -> None:
    script = Script(says(kind(BASE)), says(kind(MAINNET)))
    script.supported()
    for answer in (503, 401, 503):
        script.says["b"] = answer
        script.now += STALE_S
        assert len(script.kinds()) == 2
    script.now += STALE_S + 1.0
    assert script.kinds() == [kind(BASE)]


def test_caller_waits_only_briefly_for_one_that_hangs_while_there_is_an_answer() -> None:
    script = Script(says(kind(BASE)))

    async def run() -> Reply:
        await script.all.supported()
        await asyncio.sleep(FRESH_S)
        script.held = asyncio.Event()
        return await script.all.supported(timeout_s=10.0)

    assert play(script, run()).status == 200
    assert script.now == pytest.approx(FRESH_S + REFRESH_TIMEOUT_S)


def test_rail_that_is_being_tried_is_not_dead() -> None:
    script = Script(says(kind(BASE), kind(MAINNET)))
    script.trip("a", BASE)
    script.now += 30.0
    assert script.circuits.admit(CircuitKey("a", BASE, "settle")) is not None
    assert script.kinds() == [kind(BASE), kind(MAINNET)]


EVERYWHERE = [
    {"x402Version": 2, "scheme": "exact", "network": f"eip155:{number}"} for number in range(1, 9000)
]


def test_thousands_of_kinds_are_read_and_merged_once_for_many_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merged = []

    def counted(answers: Sequence[Supported]) -> bytes:
        merged.append(len(answers))
        return merge(answers)

    monkeypatch.setattr(catalogue, "merge", counted)
    script = Script(says(*EVERYWHERE), says(*EVERYWHERE[:10]))
    bodies = {script.supported().body for _ in range(5)}
    assert [len(json.loads(body)["kinds"]) for body in bodies] == [len(EVERYWHERE)]
    assert merged == [2]
    script.trip("a", "eip155:77")
    assert len(script.kinds()) == len(EVERYWHERE) - 1
    assert merged == [2, 2]
    script.says["a"] = says(*EVERYWHERE[:50])
    script.now += FRESH_S
    assert len(script.kinds()) == 50


def test_families_without_number_cost_a_settle_nothing() -> None:
    families = [kind(f"eip{number}:*") for number in range(9000)]
    heard = read_supported(200, says(*families, kind("eip155:8*", version=1)))
    assert heard is not None
    assert heard.serves(BASE, "exact", None)
    assert heard.serves(BASE, "exact", 1)
    assert not heard.serves("eip9000:1", "exact", None)
    took_s = timeit.timeit(lambda: heard.serves(BASE, "exact", None), number=1000) / 1000
    assert took_s < 0.0002  # some 2 µs; looking at each of them takes 500 µs


@pytest.mark.parametrize(
    "more",
    [
        {"kinds": [{}] * (MAX_ENTRIES + 1)},
        {"extensions": ["x"] * MAX_ENTRIES},
        {"signers": {"eip155:*": ["0xa"] * MAX_ENTRIES}},
        {"signers": {str(number): [] for number in range(MAX_ENTRIES)}},
    ],
    ids=["kinds", "extensions", "signers", "families"],
)
def test_answer_without_measure_filters_nothing_and_is_merged_into_none(more: dict[str, object]) -> None:
    endless = json.dumps({"kinds": [kind(MAINNET)], **more}).encode()
    script = Script(endless, says(kind(BASE)))
    assert script.kinds() == [kind(BASE)]
    assert script.candidates(BASE) == "ab"
    assert script.faults == [("a", "status 200 and no list of kinds, or more than 10000 entries")]


def test_answer_without_measure_of_the_only_facilitator_passes_as_it_is() -> None:
    endless = json.dumps({"kinds": [{}] * (MAX_ENTRIES + 1)}).encode()
    assert Script(endless).supported().body == endless
