"""Preflight in the flows: nothing leaves for a payment that cannot succeed; a known one is never asked."""

import json
import time
from typing import Any

import httpx
import pytest

from guardian.chain.target import Paid
from guardian.policy.model import NetworkPolicy, Policy
from guardian.settlement.states import Money
from guardian.wire.networks import Domain
from tests.flow.scene import NETWORK, TX, Caller, Scene, refused, settled, signed_payment


def changed(body: bytes, **terms: Any) -> bytes:
    """The same payload under other payment requirements."""
    sent = json.loads(body)
    sent["paymentRequirements"] |= terms
    return json.dumps(sent).encode()


def wrong_domain() -> bytes:
    return changed(signed_payment(), extra={"name": "USD Coin", "version": "2"})


class Strict(Scene):
    """A scene with a policy of its own."""

    def __init__(self, *replies: Any, facilitators: Any = None, watched: bool = False, **keys: Any) -> None:
        self._keys = keys
        self._facilitators = facilitators or [{"name": "main", "url": "http://facilitator"}]
        super().__init__(*replies, watched=watched)

    def policy(self, settle: dict[str, Any]) -> Policy:
        return Policy.model_validate(
            {
                "version": 1,
                "facilitators": self._facilitators,
                "networks": {NETWORK: NetworkPolicy(post_sign_delay_s=0, block_time_s=0.05)},
                **self._keys,
            }
        )


class Contract:
    """A token's own word."""

    def __init__(self, domain: Domain | None) -> None:
        self._domain = domain
        self.asked = 0

    def known_or_asked(self, network: str, asset: str) -> Domain | None:
        return None

    async def domain(self, network: str, asset: str, *, limit_s: float) -> Domain | None:
        self.asked += 1
        return self._domain

    async def close(self) -> None: ...


def test_a_wrong_token_name_is_refused_with_field_value_and_cure() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(wrong_domain())
        assert caller.status == 200
        assert caller.heard["success"] is False
        assert caller.heard["field"] == "paymentRequirements.extra.name"
        assert "USD Coin" in caller.heard["found"]
        assert "USDC" in caller.heard["expected"]
        assert 'set extra.name to "USDC"' in caller.heard["errorMessage"]
        assert scene.settles == []
        assert await scene.store.page() == []

    Strict(settled()).play(script)


def test_verify_says_the_same_before_the_seller_works() -> None:
    async def script(scene: Scene) -> None:
        caller = Caller(wrong_domain(), scene.guardian.parts.generation)
        await scene.guardian.verify.verify(caller)
        assert caller.heard["isValid"] is False
        assert caller.heard["cure"]
        assert scene.verifies == []

    Strict(settled()).play(script)


def test_the_contract_is_believed_before_the_table() -> None:
    contract = Contract(Domain("USD Coin", "2"))

    async def script(scene: Scene) -> None:
        scene.guardian.parts.tokens = contract  # type: ignore[assignment]
        caller = await scene.settle(wrong_domain())
        assert caller.heard["success"] is True
        assert contract.asked

    Strict(settled(), watched=True).play(script)


@pytest.mark.parametrize("action", ["warn", {"do": "refuse", "mode": "shadow"}, "off"])
def test_what_only_warns_or_stands_in_the_shadow_is_sent(action: Any) -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(wrong_domain())
        assert caller.heard["success"] is True
        page = scene.guardian.parts.telemetry.metrics_page()[0].decode()
        told = 'check="token_domain"' in page
        assert told is (action != "off")

    Strict(settled(), preflight={"token_domain": action}).play(script)


def test_a_payment_with_a_record_is_answered_from_it_whatever_preflight_says() -> None:
    async def script(scene: Scene) -> None:
        body = signed_payment(valid_for_s=300)
        first = await scene.settle(body)
        assert first.heard["errorReason"] != "settlement_pending"
        scene.chain.say(Paid(TX, 4, 1))
        await scene.until_record(lambda record: record.money is Money.CONFIRMED_LATE)
        scene.guardian.parts.clock = lambda: time.time() + 1000  # the authorization is over by now
        again = await scene.settle(body)
        assert (again.heard["success"], again.heard["transaction"]) == (True, TX)

    scene = Strict(
        refused("unexpected_settle_error", message="context deadline exceeded"),
        watched=True,
        settle={"hold_s": 0.05, "hold_without_hash_s": 0.05},
    )
    scene.play(script)


def test_a_limit_of_one_facilitator_sends_the_payment_to_the_other() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["success"] is True
        assert (await scene.record()).facilitator == "generous"

    facilitators = [
        {"name": "strict", "url": "http://strict", "minimum_amount": "10001 atomic"},
        {"name": "generous", "url": "http://generous", "minimum_amount": "10000 atomic"},
    ]
    Strict(settled(), facilitators=facilitators).play(script)


def test_a_payment_below_every_minimum_is_refused() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert caller.heard["errorReason"]
        assert "10001" in caller.heard["expected"]
        assert scene.settles == []

    Strict(settled(), default={"minimum_amount": "10001 atomic"}).play(script)


def test_an_authorization_that_is_about_to_expire_is_not_sent() -> None:
    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment(valid_for_s=3))
        assert "validBefore" in caller.heard["field"]
        assert scene.settles == []

    Strict(settled()).play(script)


def test_a_kind_that_no_facilitator_lists_may_be_refused() -> None:
    kinds = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:8453"}]}

    class Listing(Strict):
        async def _facilitator(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/supported":
                return httpx.Response(200, json=kinds)
            return await super()._facilitator(request)

    async def script(scene: Scene) -> None:
        caller = await scene.settle(signed_payment())
        assert NETWORK in caller.heard["errorMessage"]
        assert scene.settles == []

    Listing(settled(), preflight={"unsupported": "refuse"}).play(script)


def test_a_payment_that_names_its_settler_goes_to_nobody_else() -> None:
    """An upto payment may be settled by the facilitator in its witness alone."""
    kind = {"x402Version": 2, "scheme": "exact", "network": NETWORK}
    signers = {"kinds": [kind], "extensions": [], "signers": {"eip155:*": ["0x" + "5E" * 20]}}

    class Signing(Strict):
        async def _facilitator(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/supported":
                is_second = request.url.host == "second"
                return httpx.Response(200, json=signers) if is_second else httpx.Response(404)
            self.hosts.append(request.url.host)
            return await super()._facilitator(request)

    async def script(scene: Scene) -> None:
        sent = json.loads(signed_payment())
        sent["paymentRequirements"]["extra"]["feePayer"] = "0x" + "5e" * 20
        caller = await scene.settle(json.dumps(sent).encode())
        assert caller.heard["success"] is True
        assert scene.hosts == ["second"]  # type: ignore[attr-defined]

    facilitators = [{"name": "one", "url": "http://first"}, {"name": "two", "url": "http://second"}]
    scene = Signing(settled(), facilitators=facilitators)
    scene.hosts = []  # type: ignore[attr-defined]
    scene.play(script)
