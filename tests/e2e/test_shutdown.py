"""SIGTERM while settles are open: every caller is answered, every record is taken up by the next start."""

import concurrent.futures
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from eth_account import Account

from guardian.sandbox.buyer_py import sign_payment
from guardian.sandbox.world import RunningGuardian, World

pytestmark = pytest.mark.e2e

EXIT_LIMIT_S = 15.0
LIMIT_S = 40.0
Payment = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(mining=1.0) as world:
        yield world


@pytest.fixture
def guardian(world: World) -> Iterator[RunningGuardian]:
    """With a settlement timeout longer than a shutdown may take."""
    guardian = world.start_guardian(world.policy_text(settlement_timeout="60s"))
    yield guardian
    guardian.stop()
    world.facilitators[0].control("ok")


def signed(world: World, resource: str) -> Payment:
    return sign_payment(
        world.chain, world.chain.new_payer(), str(Account.create().address), 1000, resource=resource
    )


def settle(guardian: RunningGuardian, payment: Payment) -> httpx.Response:
    return httpx.post(f"{guardian.url}/settle", json=payment, timeout=60)


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait for a fact of another process."""
    end = time.monotonic() + LIMIT_S
    while not (found := holds()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)
    return found


def the_record(guardian: RunningGuardian) -> dict[str, Any]:
    records = guardian.get("/api/settlements")["settlements"]
    return dict(records[0]) if records else {}


def end(guardian: RunningGuardian) -> None:
    begun = time.monotonic()
    os.kill(guardian.process.pid, signal.SIGTERM)
    assert guardian.process.wait(EXIT_LIMIT_S) == 0
    assert time.monotonic() - begun < EXIT_LIMIT_S
    assert "Traceback" not in guardian.process.log_text()


def paid(guardian: RunningGuardian) -> bool:
    """By the watcher of this process, or of the one before while it drained."""
    return the_record(guardian)["money"] in ("confirmed", "confirmed_late")


def test_a_held_caller_is_told_pending_and_its_payment_goes_on_after_the_start(
    world: World, guardian: RunningGuardian
) -> None:
    facilitator = world.facilitators[0]
    facilitator.control("stuck", times=1)
    payment = signed(world, "http://shop/held")
    with concurrent.futures.ThreadPoolExecutor() as callers:
        held = callers.submit(settle, guardian, payment)
        until(lambda: the_record(guardian).get("hint"), "a hash")
        end(guardian)
        told = held.result(LIMIT_S)
    assert told.status_code == 200
    assert (told.json()["success"], told.json()["errorReason"]) == (False, "settlement_pending")
    assert told.json()["transaction"]

    guardian.start()
    assert the_record(guardian)["money"] in ("unresolved", "polling")
    facilitator.control("release")
    until(lambda: paid(guardian), "paid")
    assert settle(guardian, payment).json()["success"] is True
    assert settle(guardian, payment).json()["errorReason"] == "duplicate_settlement"
    assert len(facilitator.broadcasts(_nonce(payment))) == 1


def test_a_caller_without_a_hash_is_told_a_complete_failure(world: World, guardian: RunningGuardian) -> None:
    facilitator = world.facilitators[0]
    facilitator.control("hang", when="after", seconds=600, times=1)
    payment = signed(world, "http://shop/hang")
    with concurrent.futures.ThreadPoolExecutor() as callers:
        held = callers.submit(settle, guardian, payment)
        until(lambda: facilitator.broadcasts(_nonce(payment)), "a broadcast")
        end(guardian)
        told = held.result(LIMIT_S).json()
    assert told["success"] is False
    assert {"errorReason", "errorMessage", "transaction", "network", "payer"} <= set(told), json.dumps(told)

    guardian.start()
    until(lambda: paid(guardian), "paid")
    assert the_record(guardian)["orphan"] is True
    assert settle(guardian, payment).json()["success"] is True
    assert len(facilitator.broadcasts(_nonce(payment))) == 1


def test_an_idle_guardian_ends_at_once(guardian: RunningGuardian) -> None:
    begun = time.monotonic()
    end(guardian)
    assert time.monotonic() - begun < 5
    guardian.start()


def _nonce(payment: Payment) -> str:
    return str(payment["paymentPayload"]["payload"]["authorization"]["nonce"])
