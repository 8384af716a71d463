"""Whatever happens to the facilitator or the block: the buyer gets what it paid for, and pays once."""

import pytest
from eth_account.signers.local import LocalAccount
from stage import PRICE, Stage, until

from guardian.sandbox.world import SellerKind

pytestmark = pytest.mark.e2e

PAIRS: list[tuple[str, SellerKind]] = [("py", "py"), ("ts", "ts"), ("py", "ts"), ("ts", "py"), ("py", "v1")]
LATE = [
    *(
        (mode, "py")
        for mode in ("pending_200", "pending_500", "pending_202", "pending_no_hash", "rs_500", "go_500")
    ),
    *((mode, "py") for mode in ("v1_failed", "page_504")),
    *((mode, "ts") for mode in ("pending_500", "rs_500")),
    *((mode, "v1") for mode in ("pending_200", "v1_failed")),
]
LOST = ("crash", "reset", "truncate", "http_502", "page_504", "http_500", "garbage", "empty", "hang")
NOT_SENT = ("gas_race", "rate_limit", "http_500", "hang", "reset", "crash")


def assert_paid_once(stage: Stage, payer: LocalAccount, money: str, record: dict[str, object]) -> None:
    (transfer,) = stage.transfers(payer)
    assert transfer.amount == PRICE
    assert (record["transaction"], record["money"]) == (transfer.transaction, money)


@pytest.mark.parametrize(("buyer", "kind"), PAIRS)
def test_a_purchase_delivers_and_pays_once(patient: Stage, buyer: str, kind: SellerKind) -> None:
    payer, before = patient.payer(), patient.seller(kind).deliveries()
    if buyer == "ts":
        bought = patient.buying_ts(payer, kind).result()
        status, body = bought["status"], bought["body"]
    else:
        purchase = patient.buying(payer, kind).result()
        status, body = purchase.status, purchase.body
    assert (status, "sunny" in str(body)) == (200, True)
    assert patient.seller(kind).deliveries() == before + 1
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert_paid_once(patient, payer, "confirmed", record)


@pytest.mark.parametrize(("mode", "kind"), LATE)
def test_a_block_after_the_facilitators_deadline_still_delivers(
    patient: Stage, mode: str, kind: SellerKind
) -> None:
    payer, before = patient.payer(), patient.seller(kind).deliveries()
    patient.facilitator.control(mode, times=1)
    with patient.blocks_held_back():
        buying = patient.buying(payer, kind)
        until(lambda: patient.waiting(payer))
        patient.record(payer, money="polling")
        assert not buying.done()
    purchase = buying.result()
    assert purchase.delivered, purchase
    assert patient.seller(kind).deliveries() == before + 1
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert_paid_once(patient, payer, "confirmed_late", record)


@pytest.mark.parametrize("mode", LOST)
def test_a_reply_lost_after_the_broadcast_loses_no_delivery(patient: Stage, mode: str) -> None:
    payer, before = patient.payer(), patient.seller().deliveries()
    patient.facilitator.control(mode, when="after", times=1)
    purchase = patient.buying(payer).result()
    assert purchase.delivered, purchase
    assert patient.seller().deliveries() == before + 1
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert_paid_once(patient, payer, str(record["money"]), record)
    if mode == "crash":
        patient.facilitator.process.wait()
        patient.facilitator.start()
    assert len(patient.facilitator.broadcasts(purchase.nonces[0])) == 1


@pytest.mark.parametrize("mode", NOT_SENT)
def test_a_settle_that_broadcast_nothing_is_sent_again(patient: Stage, mode: str) -> None:
    payer, before = patient.payer(), patient.seller().deliveries()
    patient.facilitator.control(mode, times=1)
    buying = patient.buying(payer)
    if mode == "crash":
        patient.facilitator.process.wait()
        patient.facilitator.start()
    purchase = buying.result()
    assert purchase.delivered, purchase
    assert patient.seller().deliveries() == before + 1
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert_paid_once(patient, payer, str(record["money"]), record)
    sent = patient.facilitator.counters()["payments"][purchase.nonces[0]]
    assert (sent["settle"], len(sent["broadcasts"])) == (2, 1)


def test_a_slow_honest_facilitator_is_waited_for(patient: Stage) -> None:
    payer = patient.payer()
    patient.facilitator.control("ok", times=1, wait_s=2.5)
    purchase = patient.buying(payer).result()
    assert purchase.delivered, purchase
    assert len(patient.transfers(payer)) == 1
    assert len(patient.facilitator.broadcasts(purchase.nonces[0])) == 1


@pytest.mark.parametrize("mode", ["success_no_hash", "replaced"])
def test_the_hash_is_the_chains_and_not_the_facilitators(patient: Stage, mode: str) -> None:
    payer = patient.payer()
    patient.facilitator.control(mode, times=1)
    purchase = patient.buying(payer).result()
    assert purchase.delivered, purchase
    record = patient.record(payer, answer="accepted", chain_proven=True)
    assert_paid_once(patient, payer, str(record["money"]), record)
    assert purchase.receipt
    assert purchase.receipt["transaction"] == record["transaction"]
