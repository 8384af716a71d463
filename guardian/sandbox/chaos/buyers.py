"""The load: purchases at random replicas, by sellers that behave as the SDKs do and by clients that do not.

Who buys what when and how follows from the seed. What every caller heard is written down; nothing is judged.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from guardian.sandbox.buyer_py import sign_payment
from guardian.sandbox.chaos.ground import Ground, Replica

PAYERS = 8
FUNDS = 10**12
PRICE = 1000
VALID_FOR_S = 150
CLIENT_TIMEOUT_S = 75.0
ATTEMPTS = 8
NEW_SIGNATURES = 2
"""How often a client that was told a failure signs again."""


class Style(StrEnum):
    """How a client behaves."""

    STEADY = "steady"  # sends the same payload again until it hears what became of it
    ANEW = "anew"  # signs again after any failure
    DOUBLE = "double"  # sends the same payload to several replicas at once
    LEAVER = "leaver"  # hangs up and never comes back


SHARES = {Style.STEADY: 11, Style.ANEW: 4, Style.DOUBLE: 3, Style.LEAVER: 2}


@dataclass(slots=True)
class Call:
    """One /settle and what became of it (Unix seconds). kind: answered, broken, left, late."""

    nonce: str
    replica: int
    life: int
    begun: float
    ended: float = 0.0
    kind: str = "answered"
    status: int = 0
    success: bool = False
    reason: str = ""
    transaction: str = ""
    text: str = ""


@dataclass(slots=True)
class Bought:
    """One thing that a client wants to pay for once. nonces: of what it signed, in order."""

    number: int
    style: Style
    at_s: float
    dice: random.Random
    payer: LocalAccount
    nonces: list[str] = field(default_factory=list)

    @property
    def resource(self) -> str:
        return f"http://shop/{self.number}"


class Buyers:
    """All of them."""

    def __init__(self, ground: Ground, seed: int, seconds: float, per_s: float) -> None:
        self._ground = ground
        self._seed = seed
        self._http: httpx.AsyncClient
        self.pay_to = str(self._account("payee").address)
        payers = [self._account(f"payer/{number}") for number in range(PAYERS)]
        for payer in payers:
            ground.world.chain.fund(payer.address, FUNDS)
        self.all = list(_arrivals(seed, seconds, per_s, payers))
        self.calls: list[Call] = []
        self.bodies: dict[str, bytes] = {}
        self.of_nonce: dict[str, Bought] = {}

    def _account(self, name: str) -> LocalAccount:
        account: LocalAccount = Account.from_key(hashlib.sha256(f"{self._seed}/{name}".encode()).digest())
        return account

    async def shop(self) -> None:
        """Everybody, until the last one has what it wanted or has given up."""
        begun = time.monotonic()
        limits = httpx.Limits(max_connections=1000)
        async with (
            httpx.AsyncClient(timeout=CLIENT_TIMEOUT_S, limits=limits) as self._http,
            asyncio.TaskGroup() as tasks,
        ):
            for one in self.all:
                await asyncio.sleep(max(0.0, begun + one.at_s - time.monotonic()))
                tasks.create_task(self._buy(one))

    async def ask_again(self, nonces: list[str]) -> dict[str, Call]:
        """Each of these payloads once more, ten at a time."""
        turns = asyncio.Semaphore(10)

        async def ask(nonce: str) -> tuple[str, Call]:
            async with turns:
                for _ in range(ATTEMPTS):
                    call = await self._settle(nonce, random.Random(nonce))
                    if call.kind == "answered" and call.status == 200 and not _says_open(call):
                        break
                    await asyncio.sleep(1.0)
                return nonce, call

        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_S) as self._http:
            return dict(await asyncio.gather(*(ask(nonce) for nonce in nonces)))

    # -- one client

    async def _buy(self, one: Bought) -> None:
        nonce = await self._sign(one)
        if one.style is Style.LEAVER:
            with contextlib.suppress(TimeoutError):
                await self._settle(nonce, one.dice, leaves_after_s=one.dice.uniform(0.05, 3.0))
            return
        if one.style is Style.DOUBLE:
            at_once = [self._until_told(one, nonce) for _ in range(one.dice.randint(2, 3))]
            await asyncio.gather(*at_once)
            return
        told = await self._until_told(one, nonce)
        while one.style is Style.ANEW and not told.success and len(one.nonces) <= NEW_SIGNATURES:
            await asyncio.sleep(one.dice.choice((0.0, one.dice.uniform(0, 5))))
            told = await self._until_told(one, await self._sign(one))
        if told.success and one.dice.random() < 0.15:
            await self._settle(one.nonces[-1], one.dice)

    async def _until_told(self, one: Bought, nonce: str) -> Call:
        """The same payload until a replica says what became of it; a client that signs anew gives up soon."""
        attempts = 2 if one.style is Style.ANEW else ATTEMPTS
        for _ in range(attempts):
            call = await self._settle(nonce, one.dice)
            told = call.kind == "answered" and call.status == 200 and call.reason != "settlement_pending"
            if told and not _says_open(call):
                return call
            await asyncio.sleep(0.0 if call.reason == "settlement_pending" else one.dice.uniform(0.1, 1.0))
        return call

    async def _sign(self, one: Bought) -> str:
        digest = hashlib.sha256(f"{self._seed}/{one.number}/{len(one.nonces)}".encode())
        nonce = "0x" + digest.hexdigest()
        body = sign_payment(
            self._ground.world.chain,
            one.payer,
            self.pay_to,
            PRICE,
            resource=one.resource,
            nonce=nonce,
            valid_for_s=VALID_FOR_S,
        )
        one.nonces.append(nonce)
        self.of_nonce[nonce] = one
        self.bodies[nonce] = json.dumps(body).encode()
        return nonce

    # -- one request

    async def _replica(self, dice: random.Random) -> Replica:
        """Any that the balancer takes for alive."""
        while True:
            if up := [replica for replica in self._ground.replicas if replica.up]:
                return dice.choice(up)
            await asyncio.sleep(0.1)

    async def _settle(self, nonce: str, dice: random.Random, leaves_after_s: float | None = None) -> Call:
        replica = await self._replica(dice)
        call = Call(nonce, replica.number, replica.life, time.time())
        self.calls.append(call)
        post = self._http.post(
            f"{replica.url}/settle",
            content=self.bodies[nonce],
            headers={"content-type": "application/json"},
        )
        try:
            async with asyncio.timeout(leaves_after_s):
                reply = await post
        except TimeoutError:
            call.kind = "left"
        except httpx.ReadTimeout:
            call.kind = "late"
        except httpx.TransportError as error:
            call.kind, call.text = "broken", type(error).__name__
        else:
            _hear(call, reply)
        call.ended = time.time()
        return call


def _hear(call: Call, reply: httpx.Response) -> None:
    call.status, call.text = reply.status_code, reply.text[:400]
    with contextlib.suppress(ValueError):  # what is no JSON is no success
        said: dict[str, Any] = reply.json()
        call.success = said.get("success") is True
        call.reason = str(said.get("errorReason") or "")
        call.transaction = str(said.get("transaction") or "")


def _says_open(call: Call) -> bool:
    """A failure that says itself that the outcome is not known yet."""
    return not call.success and "not known yet" in call.text


def _arrivals(seed: int, seconds: float, per_s: float, payers: list[LocalAccount]) -> Iterator[Bought]:
    dice = random.Random(f"{seed}/load")
    at, number = 0.0, 0
    while (at := at + dice.expovariate(per_s)) < seconds:
        style = dice.choices(list(SHARES), list(SHARES.values()))[0]
        yield Bought(number, style, at, random.Random(f"{seed}/client/{number}"), dice.choice(payers))
        number += 1
