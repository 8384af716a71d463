"""Who signed a payment that is to be counted: forged ones fill no budget, and one that names another token
than it was signed for is refused. What cannot be told is taken on trust."""

import base64
import json
from typing import Any

import pytest

from guardian.chain.rpc import Endpoints
from guardian.flow import signer as room
from guardian.wire.networks import ASSETS
from tests.chain.scripted_node import Node
from tests.flow.buy_scene import refusal, signed
from tests.flow.scene import NETWORK, PAYER, STRANGER, USDC
from tests.flow.test_spending import CENTS, OTHER, SHORT, SpendScene, changed

SILVER = "0x" + "55" * 20
EACH = {"name": "each", "per": "payer", "payments_per_day": 1}
ABOUT_USDC = {"name": "usdc", "for": {"asset": USDC}, "per_payment": "9 atomic"}


class Accounts(Node):
    """A node on which every account has the same code, and no contract says anything of itself."""

    def __init__(self, code: str) -> None:
        super().__init__(chain_id=84532)
        self.code, self.looked = code, 0

    def eth_getCode(self, address: str, block: str) -> str:
        self.looked += 1
        return self.code

    def eth_call(self, call: dict[str, Any], block: str) -> str:
        return "0x"


class WithNode(SpendScene):
    """One whose chain can be read."""

    def __init__(self, code: str, *rules: dict[str, Any], **how: Any) -> None:
        super().__init__(*rules, **how)
        self.node = Accounts(code)
        self.chain.endpoints = Endpoints(NETWORK, [], wires=[("node", self.node)])  # type: ignore[assignment]

    def play(self, script: Any) -> None:
        async def closing(scene: Any) -> None:
            try:
                await script(scene)
            finally:
                await scene.chain.endpoints.close()

        super().play(closing)


def with_signature(nonce: int, signature: str, **how: Any) -> tuple[bytes, bytes]:
    name, value = signed(nonce, **how)
    payload = json.loads(base64.b64decode(value))
    payload["payload"]["signature"] = signature
    return name, base64.b64encode(json.dumps(payload).encode())


def test_a_forged_payment_fills_no_budget_and_is_told_what_is_wrong() -> None:
    async def script(scene: SpendScene) -> None:
        for nonce in (1, 2):
            agent = await scene.buy(signed(nonce, key=STRANGER))
            problem = agent.problem
            assert (agent.status, problem["limit"]) == (403, "signature")
        assert (scene.presented, await scene.store.page(), await scene.counted()) == ([], [], [])
        assert problem["type"] == "urn:payment-guardian:signature-refused"
        assert (problem["field"], problem["sent"]) == ("payload.signature", False)
        assert PAYER.address.lower()[:6] in problem["found"]
        assert problem["cure"].startswith("sign with the payer's key")
        assert (await scene.buy(signed(3))).status == 200

    SpendScene(EACH).play(script)


def test_a_payment_that_names_another_token_than_it_was_signed_for_is_refused() -> None:
    euro = next(asset for network, asset in ASSETS if network == "eip155:8453")

    async def script(scene: SpendScene) -> None:
        there = changed(1, asset=euro, network="eip155:8453", extra={"name": "USD Coin", "version": "2"})
        agent = await scene.buy(there)
        assert (agent.status, agent.problem["limit"], scene.presented) == (403, "signature", [])

    SpendScene(ABOUT_USDC).play(script)


def test_a_name_that_hides_the_tokens_own_domain_changes_nothing() -> None:
    async def script(scene: SpendScene) -> None:
        for extra in ({"name": "Gold", "version": "9"}, {}, {"verifyingContract": SILVER}):
            name, value = signed(1, key=STRANGER)
            payload = json.loads(base64.b64decode(value))
            payload["accepted"]["extra"] = extra
            agent = await scene.buy((name, base64.b64encode(json.dumps(payload).encode())))
            assert (agent.status, agent.problem["limit"]) == (403, "signature")

    SpendScene(EACH).play(script)


@pytest.mark.parametrize("extra", [{"name": "Gold", "version": "9"}, {}])
def test_a_payer_that_was_told_a_wrong_domain_and_signed_the_right_one_pays(extra: dict[str, str]) -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(changed(1, extra=extra))).status == 200

    SpendScene(EACH).play(script)


def test_a_token_that_nobody_knows_is_taken_on_trust() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(changed(1, asset=OTHER))).status == 200

    SpendScene({"name": "many", "payments_per_day": 9}).play(script)


def test_where_no_rule_can_be_about_it_nobody_looks() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy_as("key:bob", signed(1, key=STRANGER))).status == 503

    SpendScene({"name": "ann", "for": {"caller": "ann"}, "per_day": "$1"}, says=refusal, **SHORT).play(script)


def test_a_payment_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []

    async def counting(authorization: Any, signature: str) -> bool:
        looked.append(authorization)
        return True

    monkeypatch.setattr(room, "signed_by_payer", counting)

    async def script(scene: SpendScene) -> None:
        assert [(await scene.buy(signed(1))).status for _ in "abc"] == [503] * 3
        assert len(looked) == 1

    SpendScene(CENTS, says=refusal, **SHORT).play(script)


def test_a_second_payment_that_is_sent_later_is_looked_at_then() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1))).status == 503
        assert (await scene.buy(signed(2, key=STRANGER))).status == 503  # it stands behind the first
        assert {*scene.nonces} == {1}
        assert await scene.counted() == [10_000]

    SpendScene(CENTS, says=refusal, **SHORT).play(script)


# -- contract wallets


def test_a_contract_wallet_is_taken_on_trust() -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(signed(1, key=STRANGER))).status == 200
        assert (await scene.buy(with_signature(2, "0x" + "12" * 100))).status == 403  # its one for today

    WithNode("0x60", EACH).play(script)


def test_an_account_without_code_is_no_contract_wallet() -> None:
    async def script(scene: SpendScene) -> None:
        for forged in (signed(1, key=STRANGER), with_signature(1, "0x" + "12" * 100)):
            agent = await scene.buy(forged)
            assert (agent.status, agent.problem["limit"]) == (403, "signature")
            assert "contract wallet" not in agent.problem["cure"]

    WithNode("0x", EACH).play(script)


def test_who_signed_with_the_payers_key_costs_no_call() -> None:
    async def script(scene: Any) -> None:
        assert (await scene.buy(signed(1))).status == 200
        assert scene.node.looked == 0

    WithNode("0x60", EACH).play(script)


def test_a_chain_that_cannot_be_read_makes_nobody_a_contract_wallet() -> None:
    async def script(scene: Any) -> None:
        scene.node.down = True
        agent = await scene.buy(signed(1, key=STRANGER))
        assert (agent.status, agent.problem["limit"]) == (403, "signature")
        assert "once the chain can be read" in agent.problem["cure"]

    WithNode("0x60", EACH).play(script)


@pytest.mark.parametrize("signature", ["0x" + "12" * 100, "0x" + "12" * 40 + "6492" * 16])
def test_what_only_a_contract_could_have_signed_is_taken_on_trust_where_nobody_can_look(
    signature: str,
) -> None:
    async def script(scene: SpendScene) -> None:
        assert (await scene.buy(with_signature(1, signature))).status == 200

    SpendScene(EACH).play(script)
