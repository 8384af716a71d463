"""What the scripts of this room share: a guardian with sellers behind it, and questions to the world.

Facts of other processes have no event to wait for, so they are asked for until they are so.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpx
from eth_account.signers.local import LocalAccount

from guardian.sandbox.buyer_py import Purchase, buy_now, send_payment, sign_payment
from guardian.sandbox.chain import Transfer
from guardian.sandbox.world import (
    RunningFacilitator,
    RunningGuardian,
    RunningSeller,
    SellerKind,
    World,
    buy_ts,
)

PRICE = 10_000
LIMIT_S = 20.0
T = TypeVar("T")


def until(question: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Ask until the answer is true; the answer."""
    end = time.monotonic() + limit_s
    while not (answer := question()):
        if time.monotonic() > end:
            raise AssertionError(f"not so within {limit_s:.0f} s; last answer: {answer!r}")
        time.sleep(0.05)
    return answer


@dataclass
class Stage:
    """A guardian, its sellers (started when first asked for), and the world they stand in."""

    world: World
    guardian: RunningGuardian
    sellers: dict[SellerKind, RunningSeller] = field(default_factory=dict)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    @property
    def facilitator(self) -> RunningFacilitator:
        return self.world.facilitators[0]

    def seller(self, kind: SellerKind = "py") -> RunningSeller:
        if kind not in self.sellers:
            self.sellers[kind] = self.world.start_seller(kind, self.guardian.url)
        return self.sellers[kind]

    def payer(self) -> LocalAccount:
        return self.world.chain.new_payer()

    # --- purchases and payments

    def buying(self, payer: LocalAccount, kind: SellerKind = "py") -> "Future[Purchase]":
        """A purchase under way."""
        return self.pool.submit(buy_now, self.seller(kind).url, payer)

    def buying_ts(self, payer: LocalAccount, kind: SellerKind = "py") -> "Future[dict[str, Any]]":
        return self.pool.submit(buy_ts, self.seller(kind).url, "0x" + bytes(payer.key).hex())

    def sending_again(self, payload: dict[str, Any], times: int = 1) -> list[Purchase]:
        """The same signed payload to the seller, so many times at once; what each was told."""

        async def all_at_once() -> list[Purchase]:
            return await asyncio.gather(*(send_payment(self.seller().url, payload) for _ in range(times)))

        return asyncio.run(all_at_once())

    def signed(self, payer: LocalAccount, **terms: Any) -> dict[str, Any]:
        """A body for /verify and /settle."""
        return sign_payment(self.world.chain, payer, self.seller().pay_to, PRICE, **terms)

    def settling(self, body: dict[str, Any]) -> "Future[dict[str, Any]]":
        """POST /settle under way."""
        return self.pool.submit(self.post, "/settle", body)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = httpx.post(self.guardian.url + path, json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    # --- facts

    def transfers(self, payer: LocalAccount) -> list[Transfer]:
        return self.world.chain.transfers(payer=payer.address)

    def records(self, payer: LocalAccount) -> list[dict[str, Any]]:
        """The payer's records, oldest first."""
        page = self.guardian.get("/api/settlements?limit=1000")["settlements"]
        return [record for record in reversed(page) if record["payer"] == payer.address.lower()]

    def record(self, payer: LocalAccount, **facts: Any) -> dict[str, Any]:
        """The payer's only record, once these facts stand in it."""

        def shows() -> list[dict[str, Any]]:
            (record,) = self.records(payer)
            return [record] if facts.items() <= record.items() else []

        try:
            return until(shows)[0]
        except AssertionError as error:
            raise AssertionError(f"no record with {facts}: {self.records(payer)}") from error

    def waiting(self, payer: LocalAccount) -> list[str]:
        """The payer's broadcast transactions that no block holds yet."""
        payer_word = payer.address[2:].lower()
        return [tx["hash"] for tx in self.world.chain.pending_transactions() if payer_word in tx["input"]]

    # --- blocks

    @contextmanager
    def blocks_held_back(self) -> Iterator[None]:
        """No block inside; one a second again afterwards."""
        self.world.chain.stop_mining()
        try:
            yield
        finally:
            self.world.chain.set_interval(1)
