"""The facilitator does to the chain what each of its faults promises."""

import urllib.error

import pytest
from eth_account import Account

from guardian.sandbox.buyer_py import sign_payment
from guardian.sandbox.dialects import DEADLINES, FAULTS
from guardian.sandbox.facilitator import CRASHED
from guardian.sandbox.world import RunningFacilitator, World, http_json

pytestmark = pytest.mark.e2e
PRICE = 10_000


class Paid:
    """A fresh payment, and what became of it."""

    def __init__(self, world: World, version: int = 2) -> None:
        self._world = world
        self.payer = world.chain.new_payer()
        self.body = sign_payment(world.chain, self.payer, Account.create().address, PRICE, version=version)
        self.nonce = self.body["paymentPayload"]["payload"]["authorization"]["nonce"]

    def settle(self, facilitator: RunningFacilitator) -> tuple[int, object]:
        """Status (0: the connection ended) and JSON, if it was any."""
        try:
            return 200, http_json(f"{facilitator.url}/settle", self.body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, ValueError):
            return 0, None

    @property
    def moved(self) -> bool:
        self._world.chain.mine(1)  # whatever waits and can be mined is in this block
        return bool(self._world.chain.transfers(payer=self.payer.address))


@pytest.mark.parametrize("version", [1, 2])
def test_a_healthy_facilitator_verifies_and_settles(
    world: World, facilitator: RunningFacilitator, version: int
) -> None:
    paid = Paid(world, version)
    assert http_json(f"{facilitator.url}/verify", paid.body)["isValid"] is True
    status, answer = paid.settle(facilitator)
    assert status == 200
    assert answer["success"] is True
    assert facilitator.broadcasts(paid.nonce) == [answer["transaction"]]
    assert paid.moved
    assert http_json(f"{facilitator.url}/verify", paid.body)["invalidReason"].endswith("nonce_already_used")


def test_a_path_that_it_does_not_know_is_not_found(facilitator: RunningFacilitator) -> None:
    with pytest.raises(urllib.error.HTTPError) as answered:
        http_json(f"{facilitator.url}/discovery/resources")
    assert answered.value.code == 404
    answered.value.close()


@pytest.mark.parametrize("mode", sorted(DEADLINES))
def test_a_deadline_comes_after_a_real_broadcast(
    world: World, facilitator: RunningFacilitator, mode: str
) -> None:
    paid = Paid(world)
    facilitator.control(mode, times=1)
    paid.settle(facilitator)
    assert len(facilitator.broadcasts(paid.nonce)) == 1
    assert paid.moved


@pytest.mark.parametrize("mode", [*sorted(FAULTS), "reset", "truncate"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_strikes_on_its_side_of_the_broadcast(
    world: World, facilitator: RunningFacilitator, mode: str, when: str
) -> None:
    paid = Paid(world)
    facilitator.control(mode, when=when, times=1)
    paid.settle(facilitator)
    assert paid.moved is (when == "after")
    assert len(facilitator.broadcasts(paid.nonce)) == (1 if when == "after" else 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_counters_survive_a_crash(world: World, facilitator: RunningFacilitator, when: str) -> None:
    paid = Paid(world)
    facilitator.control("crash", when=when)
    assert paid.settle(facilitator) == (0, None)
    assert facilitator.process.wait() == CRASHED
    facilitator.start()
    assert paid.moved is (when == "after")
    assert len(facilitator.broadcasts(paid.nonce)) == (1 if when == "after" else 0)


def test_a_liar_reports_success_and_sends_nothing(world: World, facilitator: RunningFacilitator) -> None:
    paid = Paid(world)
    facilitator.control("liar", times=1)
    _, answer = paid.settle(facilitator)
    assert answer["success"] is True
    assert facilitator.broadcasts(paid.nonce) == []
    assert not paid.moved


def test_the_gas_race_is_lost_before_sending_and_won_later(
    world: World, facilitator: RunningFacilitator
) -> None:
    paid = Paid(world)
    facilitator.control("gas_race", times=2)
    assert [paid.settle(facilitator)[0] for _ in range(3)] == [400, 400, 200]
    assert paid.moved


def test_a_success_without_hash_has_paid(world: World, facilitator: RunningFacilitator) -> None:
    paid = Paid(world)
    facilitator.control("success_no_hash", times=1)
    _, answer = paid.settle(facilitator)
    assert (answer["success"], answer["transaction"]) == (True, "")
    assert paid.moved


def test_a_cancelled_transaction_never_pays(world: World, facilitator: RunningFacilitator) -> None:
    paid = Paid(world)
    facilitator.control("cancelled", times=1)
    _, answer = paid.settle(facilitator)
    assert answer["errorReason"] == "settlement_pending"
    assert not paid.moved
    assert world.chain.pending_transactions() == []
    assert world.chain.rpc("eth_getTransactionReceipt", answer["transaction"]) is None


def test_a_replaced_transaction_pays_under_another_hash(
    world: World, facilitator: RunningFacilitator
) -> None:
    paid = Paid(world)
    facilitator.control("replaced", times=1)
    _, answer = paid.settle(facilitator)
    assert paid.moved
    (transfer,) = world.chain.transfers(payer=paid.payer.address)
    assert transfer.transaction != answer["transaction"]


def test_a_stuck_transaction_pays_once_released(world: World, facilitator: RunningFacilitator) -> None:
    paid = Paid(world)
    facilitator.control("stuck", times=1)
    _, answer = paid.settle(facilitator)
    assert not paid.moved
    assert answer["transaction"] in [waiting["hash"] for waiting in world.chain.pending_transactions()]
    assert facilitator.control("release") == {"released": 1}
    assert paid.moved


def test_an_unknown_mode_is_refused(facilitator: RunningFacilitator) -> None:
    with pytest.raises(urllib.error.HTTPError, match="500") as caught:
        facilitator.control("no_such_mode")
    caught.value.close()
