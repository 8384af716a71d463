"""What an agent is answered in place of a 402: the demand as it came, put in order, or a refusal."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from guardian.chain.target import Paid
from guardian.store.memory import MemoryStore
from guardian.upstream.reply import Reply, whole_reply
from tests.flow.buy_scene import Agent, BuyScene, demand, goods, signed
from tests.flow.scene import NETWORK, TX, signed_payment

TERMS: dict[str, Any] = json.loads(signed_payment())["paymentRequirements"]
WRONG: dict[str, Any] = {"extra": {"name": "USD Coin", "version": "2"}}
OTHER = "0x" + "9" * 40
BASE: dict[str, Any] = {
    "network": "eip155:8453",
    "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "extra": {"name": "USD Coin", "version": "2"},
}


def both(*offers: dict[str, Any]) -> Reply:
    """A 402 that demands the same in its header (v2) and in its body (v1)."""
    listed = [TERMS | offer for offer in offers]
    header = json.dumps({"x402Version": 2, "accepts": listed, "extensions": {"x": [1.5]}})
    names = {"eip155:84532": "base-sepolia", "eip155:8453": "base"}
    old = [{**one, "network": names[one["network"]], "maxAmountRequired": one["amount"]} for one in listed]
    lines = [
        (b"payment-required", base64.b64encode(header.encode())),
        (b"content-type", b"application/json"),
        (b"transfer-encoding", b"chunked"),
        (b"x-own", b"kept"),
    ]
    return whole_reply(402, lines, json.dumps({"x402Version": 1, "accepts": old, "error": "pay"}).encode())


def in_header(agent: Agent) -> dict[str, Any]:
    """The demand in the header of what an agent heard."""
    (reply,) = agent.heard
    return dict(json.loads(base64.b64decode(dict(reply.headers)[b"payment-required"])))


def networks(said: dict[str, Any]) -> list[str]:
    return [offer["network"] for offer in said["accepts"]]


async def asked(scene: BuyScene, reply: Reply) -> Agent:
    return await scene.buy(demanded=reply)


def metrics(scene: BuyScene) -> str:
    return scene.guardian.parts.telemetry.metrics_page()[0].decode()


# -- the checks


def test_a_sound_demand_passes_as_it_is() -> None:
    async def script(scene: BuyScene) -> None:
        reply = both({}, BASE)
        lines, body = list(reply.headers), reply.take()
        reply.feed(body)
        agent = await asked(scene, reply)
        assert agent.heard[0] is reply
        assert (agent.status, list(reply.headers), agent.said) == (402, lines, body)

    BuyScene(goods()).play(script)


def test_a_wrong_domain_is_refused_with_the_field_and_the_cure() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await asked(scene, demand(**WRONG))
        problem = agent.problem
        assert (agent.status, problem["type"]) == (403, "urn:payment-guardian:demand-refused")
        assert problem["field"] == "PAYMENT-REQUIRED.accepts[0].extra.name"
        assert (problem["found"], problem["expected"]) == ("'USD Coin'", "'USDC'")
        assert "USDC" in problem["cure"]
        assert scene.presented == []
        line = (
            f'guardian_demands_findings_total{{check="token_domain",done="refused",network="{NETWORK}"}} 1.0'
        )
        assert line in metrics(scene)

    BuyScene(goods()).play(script)


@pytest.mark.parametrize("do", ["off", "warn", {"do": "refuse", "mode": "shadow"}])
def test_what_is_not_refused_passes_as_it_is(do: Any) -> None:
    async def script(scene: BuyScene) -> None:
        reply = demand(**WRONG)
        assert (await asked(scene, reply)).heard == [reply]
        counted = "guardian_demands_findings_total{" in metrics(scene)
        assert counted is (do != "off")

    BuyScene(goods(), route={"demands": {"token_domain": do}}).play(script)


def test_a_bad_offer_is_taken_out_of_header_and_body_and_the_others_stay() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await asked(scene, both(WRONG, BASE))
        assert networks(in_header(agent)) == ["eip155:8453"]
        assert networks(json.loads(agent.said)) == ["base"]
        headers = dict(agent.heard[0].headers)
        assert headers[b"content-length"] == b"%d" % len(agent.said)
        assert b"transfer-encoding" not in headers
        assert headers[b"x-own"] == b"kept"
        assert b'{"x": [1.5]}' in base64.b64decode(headers[b"payment-required"])

    BuyScene(goods()).play(script)


def test_a_demand_that_only_a_v1_client_could_pay_is_refused() -> None:
    """Otherwise its header would list nothing, and clients fail on that."""

    async def script(scene: BuyScene) -> None:
        reply = both(WRONG)
        old = json.loads(reply.take())
        old["accepts"][0]["extra"]["name"] = "USDC"
        agent = await asked(scene, whole_reply(402, reply.headers, json.dumps(old).encode()))
        assert agent.status == 403

    BuyScene(goods()).play(script)


PRICE_REFUSED: dict[str, Any] = {"demands": {"price_jump": "refuse", "largest_price_jump": "1.5x"}}


def test_a_price_that_jumps_is_refused_however_often_it_is_asked() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await asked(scene, demand())).status == 402
        for _ in range(3):
            agent = await asked(scene, demand(amount="15001"))
            assert (agent.status, agent.problem["check"]) == (403, "price_jump")
        assert (await asked(scene, demand(amount="15000"))).status == 402

    BuyScene(goods(), route=PRICE_REFUSED).play(script)


def test_nobody_climbs_over_the_limit_in_small_steps() -> None:
    async def script(scene: BuyScene) -> None:
        heard = []
        for amount in ("10000", "14000", "16000"):
            heard.append((await asked(scene, demand(amount=amount))).status)
        assert heard == [402, 402, 403]
        now[0] += 3601
        assert (await asked(scene, demand(amount="14000"))).status == 402
        assert (await asked(scene, demand(amount="16000"))).status == 402

    scene, now = BuyScene(goods(), route=PRICE_REFUSED), [1_000_000.0]
    scene.guardian.parts.clock = lambda: now[0]
    scene.play(script)


def test_prices_of_other_requests_and_tokens_are_not_compared() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await asked(scene, demand())).status == 402
        assert (await asked(scene, demand(**BASE, amount="90000"))).status == 402
        agent = scene.agent(demanded=demand(amount="90000"))
        agent.url = "http://shop/other"
        await scene.flow.handle(agent)
        assert agent.status == 402

    BuyScene(goods(), route=PRICE_REFUSED).play(script)


def test_another_payee_of_the_same_host_is_refused_for_every_url() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await asked(scene, demand())).status == 402
        agent = scene.agent(demanded=demand(payTo=OTHER))
        agent.url = "http://shop/other"
        await scene.flow.handle(agent)
        assert (agent.status, agent.problem["found"]) == (403, f"'{OTHER}'")
        elsewhere = scene.agent(demanded=demand(payTo=OTHER))
        elsewhere.url = "http://another-shop/weather"
        await scene.flow.handle(elsewhere)
        assert elsewhere.status == 402

    BuyScene(goods(), route={"demands": {"payee_change": "refuse"}}).play(script)


def test_a_new_payee_is_warned_of_once_where_it_passes() -> None:
    async def script(scene: BuyScene) -> None:
        for payee in (TERMS["payTo"], OTHER, OTHER, TERMS["payTo"]):
            assert (await asked(scene, demand(payTo=payee))).status == 402
        assert 'check="payee_change",done="warned",network="eip155:84532"} 1.0' in metrics(scene)

    BuyScene(goods()).play(script)


def test_what_was_paid_before_a_restart_is_remembered() -> None:
    store, route = MemoryStore(), {"demands": {"payee_change": "refuse", "price_jump": "refuse"}}

    async def before(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 200

    async def after(scene: BuyScene) -> None:
        assert (await asked(scene, demand(payTo=OTHER))).problem["check"] == "payee_change"
        assert (await asked(scene, demand(amount="20001"))).problem["check"] == "price_jump"

    BuyScene(goods(), store=store).play(before)
    BuyScene(goods(), store=store, route=route).play(after)


def test_a_seller_that_names_hundreds_of_tokens_makes_nothing_forgotten() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await asked(scene, demand())).status == 402
        flood = [{**TERMS, "asset": f"0x{number:040x}", "payTo": OTHER} for number in range(256)]
        said = base64.b64encode(json.dumps({"x402Version": 2, "accepts": flood}).encode())
        for _ in range(3):
            await asked(scene, whole_reply(402, [(b"payment-required", said)], b"{}"))
        assert (await asked(scene, demand(payTo=OTHER))).status == 403

    BuyScene(goods(), watched=False, route={"demands": {"payee_change": "refuse"}}).play(script)


UNREADABLE = [
    lambda: whole_reply(402, [(b"payment-required", b"!!")], b"{}"),
    lambda: whole_reply(402, [], b'{"accepts": [], "accepts": [1]}'),
]


@pytest.mark.parametrize("reply", UNREADABLE)
def test_a_demand_that_cannot_be_read_passes_or_is_refused_as_the_policy_says(
    reply: Callable[[], Reply],
) -> None:
    async def warns(scene: BuyScene) -> None:
        assert (await asked(scene, reply())).status == 402

    async def refuses(scene: BuyScene) -> None:
        assert (await asked(scene, reply())).problem["check"] == "unreadable"

    BuyScene(goods()).play(warns)
    BuyScene(goods(), route={"demands": {"unreadable": "refuse"}}).play(refuses)


def test_a_402_that_is_too_long_to_be_read_is_unreadable() -> None:
    async def script(scene: BuyScene) -> None:
        reply = Reply(402, [(b"payment-required", dict(demand().headers)[b"payment-required"])])
        reply.feed(b"x" * 1000)
        assert (await asked(scene, reply)).status == 403

    BuyScene(goods(), route={"demands": {"unreadable": "refuse"}}).play(script)


@pytest.mark.parametrize("body", [b"", b"<html>pay</html>", b'{"error":"no credit"}'])
def test_a_402_that_means_something_else_passes(body: bytes) -> None:
    async def script(scene: BuyScene) -> None:
        reply = whole_reply(402, [], body)
        assert (await asked(scene, reply)).heard == [reply]

    BuyScene(goods(), route={"demands": {"unreadable": "refuse"}}).play(script)


# -- which networks are offered


def test_preferred_networks_come_first_in_header_and_body() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await asked(scene, both({}, BASE))
        assert networks(in_header(agent)) == ["eip155:8453", "eip155:84532"]
        assert networks(json.loads(agent.said)) == ["base", "base-sepolia"]

    BuyScene(goods(), route={"offers": {"prefer": ["eip155:8453"]}}).play(script)


def test_networks_that_are_not_allowed_are_taken_out_and_none_left_is_refused() -> None:
    async def script(scene: BuyScene) -> None:
        agent = await asked(scene, both({}, BASE))
        assert networks(in_header(agent)) == ["eip155:8453"]
        agent = await asked(scene, both({}))
        assert (agent.status, agent.problem["type"]) == (403, "urn:payment-guardian:no-network-offered")
        assert agent.problem["found"] == ["base-sepolia", "eip155:84532"]

    BuyScene(goods(), route={"offers": {"only": ["eip155:8453"]}}).play(script)


@pytest.mark.parametrize(
    ("unhealthy", "left"),
    [
        ("last", ["eip155:8453", "eip155:84532"]),
        ("drop", ["eip155:8453"]),
        ("off", ["eip155:84532", "eip155:8453"]),
    ],
)
def test_an_unhealthy_network_goes_behind_the_others_or_out(unhealthy: str, left: list[str]) -> None:
    async def script(scene: BuyScene) -> None:
        scene.chain.healthy, scene.chain.fault = False, "no node answers"
        agent = await asked(scene, both({}, BASE))
        assert networks(in_header(agent)) == left
        agent = await asked(scene, demand())
        assert agent.status == 402  # nothing else is there: the seller's only offer stays

    BuyScene(goods(), route={"offers": {"unhealthy": unhealthy}}).play(script)


def test_the_record_of_the_payment_keeps_what_its_seller_had_offered() -> None:
    async def script(scene: BuyScene) -> None:
        await asked(scene, both({}, BASE))
        assert (await scene.buy(signed())).status == 200
        note = (await scene.record()).events[0].note
        offered = json.loads(note.removeprefix("its seller offered "))
        assert [(one["network"], one["amount"]) for one in offered] == [
            ("eip155:84532", "10000"),
            ("eip155:8453", "10000"),
        ]

    BuyScene(goods(), route={"offers": {"prefer": ["eip155:8453"]}}).play(script)


def test_a_record_says_nothing_of_offers_that_were_passed_as_they_were() -> None:
    async def script(scene: BuyScene) -> None:
        await asked(scene, both({}, BASE))
        assert (await scene.buy(signed())).status == 200
        assert (await scene.record()).events[0].note == ""

    BuyScene(goods()).play(script)


def test_a_payment_that_exists_answers_before_its_demand_is_looked_at() -> None:
    async def script(scene: BuyScene) -> None:
        agent, task = scene.buying(signed())
        await scene.until(lambda: scene.chain.targets)
        scene.chain.say(Paid(TX, 4, 1))
        await task
        assert agent.status == 503
        scene.says = [goods()]
        assert (await scene.buy(demanded=both({}, BASE))).status == 200

    refusing = {"offers": {"only": ["eip155:8453"]}}
    scene = BuyScene(lambda: whole_reply(402, [], b"{}"), route=refusing, hold_s=0.1, hold_without_hash_s=0.2)
    scene.play(script)
