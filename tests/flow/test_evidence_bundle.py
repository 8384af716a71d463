"""The evidence of a payment: durable attempts, a bundle that can be checked, and no secret in it."""

import json
from typing import Any

import httpx
import pytest

from guardian.chain.onchain import OnChain
from guardian.chain.target import Paid
from guardian.errors import GuardianError
from guardian.flow.evidence import bundle, evidence, hash_of, id_of
from guardian.flow.evidence_check import check_bundle
from guardian.flow.heard import EXCERPT_CHARS, excerpt
from guardian.flow.sealing import Sealing
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from guardian.upstream.reply import whole_reply
from tests.flow.buy_scene import BuyScene, goods, refusal, signed
from tests.flow.scene import NETWORK, PAYER, SELLER, TX, USDC, Scene, refused, settled, signed_payment
from tests.flow.test_settle import LOST

PLAIN = Sealing()
SECRET = "0x" + "5a" * 65


def word(text: str) -> str:
    return "0x" + text.removeprefix("0x").lower().rjust(64, "0")


def shown(nonce: int = 1, amount: int = 10_000) -> OnChain:
    """What a node shows of a payment that was made."""
    about = {"address": USDC, "transactionHash": TX, "blockHash": "0x" + "b1" * 32}
    used = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
    moved = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    payer = word(PAYER.address)
    logs = (
        about | {"topics": [used, payer, word(f"{nonce:x}")], "data": "0x", "logIndex": "0x0"},
        about | {"topics": [moved, payer, word(SELLER)], "data": word(f"{amount:x}"), "logIndex": "0x1"},
    )
    return OnChain(TX, 7, "0x" + "b1" * 32, 1_700_000_000, "paid", "", logs)


async def orphaned(scene: Scene) -> Settlement:
    """A settle in doubt whose caller was told a failure before the chain showed it paid."""
    await scene.settle(signed_payment())
    await scene.until(lambda: scene.chain.targets)
    scene.chain.say(Paid(TX, 7, 1))
    return await scene.until_record(lambda record: record.orphan)


def test_a_payment_that_is_delivered_at_once_keeps_nothing_of_it() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        record = await scene.record()
        assert (record.answer, record.attempts, record.attempts_made) == (Answer.ACCEPTED, (), 0)

    Scene(settled()).play(script)


def test_every_attempt_at_a_facilitator_is_on_record() -> None:
    async def script(scene: Scene) -> None:
        record = await orphaned(scene)
        (attempt,) = record.attempts
        assert (attempt.to, attempt.status, record.attempts_made) == ("main", 502, 1)
        assert "broke" in attempt.excerpt
        assert SECRET[2:] not in attempt.excerpt
        assert len(attempt.sha256) == 64

    text = json.dumps({"error": "upstream broke", "signature": SECRET})
    Scene(httpx.Response(502, text=text), hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_lost_reply_is_an_attempt_too() -> None:
    async def script(scene: Scene) -> None:
        (attempt,) = (await orphaned(scene)).attempts
        assert (attempt.status, attempt.note.partition(":")[0], attempt.sha256) == (0, "timeout", "")

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_success_whose_caller_has_left_is_on_record_with_what_the_facilitator_said() -> None:
    async def script(scene: Scene) -> None:
        caller, task = scene.calling(signed_payment())
        caller.gone = True
        await task
        record = await scene.until_record(lambda record: record.answer is Answer.ABANDONED)
        assert (record.money, [one.status for one in record.attempts]) == (Money.CONFIRMED, [200])
        assert TX in record.attempts[0].excerpt

    Scene(settled()).play(script)


def test_an_orphan_keeps_what_was_signed_and_no_signature() -> None:
    async def script(scene: Scene) -> None:
        record = await orphaned(scene)
        signature = json.loads(signed_payment())["paymentPayload"]["payload"]["signature"]
        assert signature[2:40].encode() not in record.body
        made = bundle(record, PLAIN, shown(), 1_700_000_100.5)
        assert signature[2:40] not in json.dumps(made)
        assert made["authorization"]["authorization"]["to"] == SELLER
        assert made["requirements"]["payTo"] == SELLER
        assert made["request"]["body"]["bytes"] == len(scene.settles[0])
        assert made["transaction"]["block"] == {
            "number": 7,
            "hash": "0x" + "b1" * 32,
            "time": "2023-11-14T22:13:20.000000Z",
        }
        assert [line["name"] for line in made["trail"]][:2] == ["claimed", "doubt"]
        assert made["made_at"] == "2023-11-14T22:15:00.500000Z"

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_bundle_that_was_changed_does_not_verify() -> None:
    async def script(scene: Scene) -> None:
        made = bundle(await orphaned(scene), PLAIN, shown(), 1.0)
        again = json.loads(json.dumps(made))
        assert all(holds for holds, _ in check_bundle(again)), check_bundle(again)
        assert len(check_bundle(again)) == 5
        for change in ("amount", "pay_to", "closed_note"):
            forged = json.loads(json.dumps(made))
            forged["payment"][change] = "1"
            assert not check_bundle(forged)[0][0]
        # Whoever also writes a new hash contradicts what was signed and asked, and the chain's own logs.
        for amount, of_chain in (("1", True), ("10001", False)):
            forged = json.loads(json.dumps(made))
            forged["payment"]["amount"] = amount
            forged["sha256"] = hash_of(forged)
            assert [holds for holds, _ in check_bundle(forged)] == [True, True, False, of_chain, True]

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


@pytest.mark.parametrize("found", [None, [], {}, {"evidence": 2}])
def test_what_is_no_bundle_is_said_so(found: Any) -> None:
    with pytest.raises(GuardianError, match="no evidence bundle"):
        check_bundle(found)


def test_a_bundle_with_parts_missing_is_wrong_and_no_crash() -> None:
    assert [holds for holds, _ in check_bundle({"evidence": 1})] == [False]
    assert not all(holds for holds, _ in check_bundle({"evidence": 1, "sha256": "", "payment": {"key": 3}}))


def test_an_agents_payment_that_bought_nothing_has_the_request_and_every_refusal() -> None:
    async def script(scene: BuyScene) -> None:
        await scene.buy(signed())
        scene.chain.say(Paid(TX, 7, 1))
        record = await scene.until_record(lambda record: record.orphan)
        assert record.attempts_made == len(scene.presented)
        made = bundle(record, PLAIN, shown(), 1.0)
        assert made["request"]["method"] == "GET"
        assert made["request"]["url"] == "http://shop/weather"
        assert len(made["request"]["body"]["sha256"]) == 64
        assert made["requirements"]["payTo"] == SELLER
        assert made["authorization"]["authorization"]["value"] == "10000"
        assert {one["status"] for one in made["attempts"]} == {500}
        assert "no stock" in made["attempts"][0]["body"]["excerpt"]
        assert signed()[1][-80:].decode() not in json.dumps(made)
        assert all(holds for holds, _ in check_bundle(json.loads(json.dumps(made))))

    def out_of_stock() -> Any:
        return whole_reply(500, [(b"content-type", b"text/plain")], b"no stock; x-api-key: abcdef0123456789")

    BuyScene(out_of_stock, hold_s=0.3, hold_without_hash_s=0.3).play(script)


def test_refusals_that_go_on_do_not_push_the_beginning_out_of_the_trail() -> None:
    async def script(scene: BuyScene) -> None:
        for _ in range(20):
            await scene.buy(signed())
        record = await scene.record()
        assert record.attempts_made == len(scene.presented) >= 20
        assert record.events[0].name == "claimed"
        assert len([line for line in record.events if line.name == "refused"]) <= 1
        assert len(record.attempts) == 1
        assert record.attempts[0].times == record.attempts_made

    BuyScene(lambda: refusal(), hold_s=0.05, hold_without_hash_s=0.05).play(script)


def test_goods_that_nobody_took_are_named_by_their_hash_and_not_shown() -> None:
    async def script(scene: BuyScene) -> None:
        agent = scene.agent(signed())

        def leaves() -> Any:
            agent.gone = True
            return goods()

        scene.says = [leaves]
        await scene.flow.handle(agent)
        record = await scene.until_record(lambda record: record.attempts)
        (attempt,) = record.attempts
        assert (attempt.status, attempt.excerpt, len(attempt.sha256)) == (200, "", 64)

    BuyScene(lambda: goods(), hold_s=0.2, hold_without_hash_s=0.2).play(script)


def test_without_a_node_the_bundle_says_why_the_chain_is_missing() -> None:
    async def script(scene: Scene) -> None:
        record = await orphaned(scene)
        scene.guardian.parts.watchers.clear()
        made = await evidence(scene.guardian.parts, record, PLAIN)
        assert made["transaction"]["hash"] == TX
        assert "no chain" in made["transaction"]["not_told_because"]
        assert all(holds for holds, _ in check_bundle(made))

    Scene(LOST, hold_s=0.1, hold_without_hash_s=0.2).play(script)


def test_a_refusal_is_on_record_without_being_in_doubt() -> None:
    async def script(scene: Scene) -> None:
        await scene.settle(signed_payment())
        record = await scene.record()
        assert (record.money, [one.status for one in record.attempts]) == (Money.FAILED, [200])

    Scene(refused("insufficient_funds")).play(script)


def test_an_excerpt_is_short_and_cuts_no_secret_in_two() -> None:
    text = excerpt(b"x" * (EXCERPT_CHARS - 10) + b" signature: " + SECRET.encode() + b"\x1b[2J\xff")
    assert len(text) <= EXCERPT_CHARS
    assert "5a" not in text
    assert "\x1b" not in excerpt(b"\x1b[2J\xff")


def test_a_record_is_found_by_its_key() -> None:
    key = f"{NETWORK}/{USDC}/{PAYER.address.lower()}/0x01"
    assert (id_of("pay_1"), len(id_of(key))) == ("pay_1", 36)


def test_the_evidence_hash_does_not_depend_on_how_it_was_written() -> None:
    made = {"b": [1, "ä"], "a": {"y": None, "x": True}}
    assert hash_of(made) == hash_of(json.loads(json.dumps(made, indent=3, sort_keys=True)))
