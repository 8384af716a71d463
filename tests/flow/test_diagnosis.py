"""Who does what costs others money: counted by host and facilitator, with a bound on names."""

from typing import Any

import pytest

from guardian.chain.target import Expired, Paid
from guardian.flow.diagnosis import MAX_SUBJECTS, Diagnosis, Found, Kind
from guardian.policy.model import Policy
from guardian.telemetry import Telemetry
from guardian.upstream.reply import whole_reply
from tests.flow.buy_scene import BuyScene, goods, refusal, signed
from tests.flow.scene import NETWORK, TX, Scene, settled, signed_payment

SHORT: dict[str, Any] = {"hold_s": 0.1, "hold_without_hash_s": 0.2}


def shop(*names: str) -> Policy:
    routes = [{"name": name, "upstream": "http://shop:80/v1"} for name in names]
    return Policy.model_validate({"version": 1, "routes": routes})


def found(scene: BuyScene | Scene) -> dict[Kind, Found]:
    return {one.kind: one for one in scene.guardian.parts.diagnosis.all()}


def refused_for_good() -> Any:
    return whole_reply(422, [], b'{"error":"no"}')


def test_routes_to_one_host_are_counted_together() -> None:
    diagnosis = Diagnosis(Telemetry.create(service_version="0"), lambda: 5.0)
    for route in ("a", "b"):
        diagnosis.of_route(Kind.BUYER_LOOPS, shop("a", "b"), route, f"pay_{route}")
    (one,) = diagnosis.all()
    assert (one.host, one.routes, one.count, one.settlement) == ("shop:80", {"a", "b"}, 2, "pay_b")


def test_a_route_that_is_gone_is_counted_as_other() -> None:
    diagnosis = Diagnosis(Telemetry.create(service_version="0"))
    diagnosis.of_route(Kind.BUYER_LOOPS, shop("a"), "gone", "pay_1")
    (one,) = diagnosis.all()
    assert (one.host, one.routes) == ("other", set())


def test_names_without_end_end_as_other() -> None:
    diagnosis = Diagnosis(Telemetry.create(service_version="0"))
    for number in range(2 * MAX_SUBJECTS):
        diagnosis.of_facilitator(Kind.FACILITATOR_LIES, f"f{number}", NETWORK, "pay_1")
    assert len(diagnosis.all()) == MAX_SUBJECTS + 1
    (other,) = [one for one in diagnosis.all() if one.facilitator == "other"]
    assert other.count == MAX_SUBJECTS


def test_a_facilitator_whose_success_moved_nothing_is_named() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        scene.chain.say(Expired(9))
        record = await scene.until_record(lambda record: record.unpaid)
        one = found(scene)[Kind.FACILITATOR_LIES]
        assert (one.facilitator, one.host, one.count, one.settlement) == ("main", "", 1, record.id)
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        assert f'guardian_facilitator_lies_total{{facilitator="main",network="{NETWORK}"}} 1.0' in page

    Scene(settled()).play(script)


def test_a_seller_that_charged_and_refused_is_counted_also_when_nobody_waits_any_more() -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503
        assert Kind.CHARGED_ON_4XX not in found(scene)
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.chain_proven)
        assert found(scene)[Kind.CHARGED_ON_4XX].host == "shop"
        again = await scene.buy(signed())
        assert again.status == 503
        assert found(scene)[Kind.CHARGED_ON_4XX].count == 1  # it is the same payment

    BuyScene(refused_for_good, **SHORT).play(script)


@pytest.mark.parametrize("says", [refusal, lambda: refusal(500)])
def test_a_seller_that_waits_or_breaks_has_not_refused(says: Any) -> None:
    async def script(scene: BuyScene) -> None:
        assert (await scene.buy(signed())).status == 503
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.chain_proven)
        assert Kind.CHARGED_ON_4XX not in found(scene)

    BuyScene(says, **SHORT).play(script)


def test_a_buyer_that_signs_three_times_for_one_purchase_loops() -> None:
    async def script(scene: BuyScene) -> None:
        for nonce in (1, 2):
            await scene.buy(signed(nonce))
        assert Kind.BUYER_LOOPS not in found(scene)
        for nonce in (3, 4):
            await scene.buy(signed(nonce))
        assert found(scene)[Kind.BUYER_LOOPS].count == 2

    BuyScene(refusal, **SHORT).play(script)


def test_a_buyer_that_is_delivered_each_time_does_not_loop() -> None:
    async def script(scene: BuyScene) -> None:
        for nonce in range(1, 6):
            assert (await scene.buy(signed(nonce))).status == 200
        assert found(scene) == {}

    BuyScene(goods).play(script)
