"""`kill -9` at random points of settles on a real chain: no payment is lost, none is made twice.

One long script: rounds of concurrent settles, each ended by a crash after a random delay. After the
last restart every record must say what the chain says. A kill point is a settle that was open when
the process died.
"""

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_account import Account

from guardian.sandbox.buyer_py import sign_payment
from guardian.sandbox.chain import Chain
from guardian.sandbox.world import RunningGuardian, World

pytestmark = pytest.mark.e2e

WANTED = 200
PER_ROUND = 18
LONGEST_DELAY_S = 1.5
REPEATED = 3
"""Settles that a kill has cut off and whose callers come again after the restart."""

SETTLED_LIMIT_S = 40.0
OPEN = {"idle", "pending", "unresolved", "polling"}
PAID = {"confirmed", "confirmed_late"}

Payment = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(mining=1.0) as world:
        yield world


class Trial:
    """What was sent, and what was heard before each kill."""

    def __init__(self, world: World, guardian: RunningGuardian, seed: int) -> None:
        self.world, self.guardian = world, guardian
        self.dice = random.Random(seed)
        self.payers = [world.chain.new_payer(100_000_000) for _ in range(4)]
        self.seller = str(Account.create().address)
        self.payments: dict[str, Payment] = {}
        self.heard: dict[str, list[Any]] = {}
        self.cut_off: list[str] = []
        self.points = 0
        self.kills = 0

    def sign(self) -> str:
        number = len(self.payments)
        payment = sign_payment(
            self.world.chain,
            self.payers[number % len(self.payers)],
            self.seller,
            1000,
            resource=f"http://shop/{number}",
            nonce=secrets.token_hex(32),
        )
        nonce = str(payment["paymentPayload"]["payload"]["authorization"]["nonce"])
        self.payments[nonce] = payment
        return nonce

    async def post(self, http: httpx.AsyncClient, nonce: str) -> None:
        """One caller of /settle; an answer that never came is no answer."""
        try:
            reply = await http.post(f"{self.guardian.url}/settle", json=self.payments[nonce])
        except httpx.TransportError:
            self.cut_off.append(nonce)
        else:
            self.heard.setdefault(nonce, []).append(reply.json())

    async def round(self) -> None:
        """Callers come, the process dies after a random delay, and is started again."""
        again = [self.cut_off.pop(0) for _ in range(min(REPEATED, len(self.cut_off)))]
        nonces = again + [self.sign() for _ in range(PER_ROUND)]
        before = len(self.cut_off)
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as http:
            callers = [asyncio.create_task(self.post(http, nonce)) for nonce in nonces]
            await asyncio.sleep(self.dice.uniform(0, LONGEST_DELAY_S))  # the moment of the crash
            await asyncio.to_thread(self.guardian.kill)
            await asyncio.gather(*callers)
        self.kills += 1
        self.points += len(self.cut_off) - before
        await asyncio.to_thread(self.guardian.start)

    def records(self, query: str = "") -> dict[str, dict[str, Any]]:
        page = self.guardian.get(f"/api/settlements?limit=1000{query}")["settlements"]
        return {record["nonce"]: record for record in page}

    async def settled_records(self) -> dict[str, dict[str, Any]]:
        """The records once the chain has spoken about each of them."""
        until = time.monotonic() + SETTLED_LIMIT_S
        while time.monotonic() < until:
            records = await asyncio.to_thread(self.records)
            left = [one for one in records.values() if one["money"] in OPEN]
            if not left:
                return records
            await asyncio.sleep(0.5)
        raise AssertionError(f"{len(left)} records never reached the chain's truth, e.g. {left[0]}")

    async def answers(self, nonces: list[str]) -> dict[str, Any]:
        """What each of these callers is told now."""
        limits = httpx.Limits(max_connections=10)

        async def ask(nonce: str) -> tuple[str, Any]:
            reply = await http.post(f"{self.guardian.url}/settle", json=self.payments[nonce])
            return nonce, reply.json()

        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            return dict(await asyncio.gather(*(ask(nonce) for nonce in nonces)))


def transfers_by_nonce(chain: Chain, payments: dict[str, Payment]) -> dict[str, list[str]]:
    """The transactions that used each nonce, from the token's own log."""
    return {
        nonce: [use.transaction for use in chain.uses(_payer(payment), nonce) if not use.cancelled]
        for nonce, payment in payments.items()
    }


def _payer(payment: Payment) -> str:
    return str(payment["paymentPayload"]["payload"]["authorization"]["from"])


def _times_sent(record: dict[str, Any]) -> int:
    """How often the audit trail says that this authorization could go out."""
    return 1 + sum(event["name"] in ("resent", "presented_again") for event in record["events"])


def orphans_as_listed(guardian: RunningGuardian) -> set[str]:
    command = [sys.executable, "-m", "guardian.cli", "orphans", "list", "--json", "--limit", "1000"]
    ran = subprocess.run(
        [*command, "--ops", guardian.ops_url], capture_output=True, text=True, timeout=30, check=True
    )
    return {record["id"] for record in json.loads(ran.stdout)}


def test_two_hundred_kills_lose_no_payment_and_make_none_twice(world: World) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    guardian = world.start_guardian(world.policy_text(settlement_timeout="5s"))
    asyncio.run(_script(Trial(world, guardian, seed)))


async def _script(trial: Trial) -> None:
    begun = time.monotonic()
    while trial.points < WANTED:
        await trial.round()
    print(f"{trial.points} points in {trial.kills} kills, {time.monotonic() - begun:.0f} s")
    await asyncio.to_thread(trial.world.chain.advance_time, 600)  # what was never sent has expired
    records = await trial.settled_records()
    transfers = await asyncio.to_thread(transfers_by_nonce, trial.world.chain, trial.payments)
    print(f"all records settled after {time.monotonic() - begun:.0f} s")
    _check_money(trial, records, transfers)
    orphans = _check_orphans(trial, records)
    await _check_repeats(trial, orphans, transfers)
    print(f"{len(orphans)} orphans delivered; {time.monotonic() - begun:.0f} s")


def _check_money(trial: Trial, records: dict[str, dict[str, Any]], transfers: dict[str, list[str]]) -> None:
    counters = trial.world.facilitators[0].counters()["payments"]
    for nonce, used_by in transfers.items():
        record = records.get(nonce)
        assert len(used_by) <= 1
        if record is None:
            assert not used_by, "money moved without a record"
            assert nonce not in counters, "sent without a record"
            continue
        assert (record["money"] in PAID) == bool(used_by), record
        assert record["transaction"] == (used_by[0] if used_by else None), record
        assert counters.get(nonce, {}).get("settle", 0) <= _times_sent(record), record
    for nonce, heard in trial.heard.items():
        for answer in heard:
            if answer["success"]:
                assert [answer["transaction"]] == transfers[nonce]


def _check_orphans(trial: Trial, records: dict[str, dict[str, Any]]) -> list[str]:
    orphans = {
        nonce: record
        for nonce, record in records.items()
        if record["money"] in PAID and record["answer"] != "accepted"
    }
    assert orphans, "no kill has cut off a paid settle: the trial shows nothing"
    assert set(trial.records("&orphans=true")) == set(orphans)
    assert orphans_as_listed(trial.guardian) == {record["id"] for record in orphans.values()}
    return list(orphans)


async def _check_repeats(trial: Trial, orphans: list[str], transfers: dict[str, list[str]]) -> None:
    first = await trial.answers(orphans)
    assert {nonce: [answer["transaction"]] for nonce, answer in first.items() if answer["success"]} == {
        nonce: transfers[nonce] for nonce in orphans
    }
    second = await trial.answers(orphans)
    assert {answer["errorReason"] for answer in second.values()} == {"duplicate_settlement"}
    assert trial.records("&orphans=true") == {}
    after = await asyncio.to_thread(transfers_by_nonce, trial.world.chain, trial.payments)
    assert after == transfers
