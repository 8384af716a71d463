"""Buyers: the official Python client with a generous timeout, and payments signed by hand.


purchase = await buy("http://127.0.0.1:…/weather", account)        # or buy_now(…) outside asyncio
again = await send_payment(url, purchase.payloads[-1])             # the same signed payload once more
body = sign_payment(chain, account, pay_to, 10_000)                # JSON for POST /verify and /settle
"""

import asyncio
import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from guardian.sandbox.chain import TOKEN, Chain

TIMEOUT_S = 180.0  # longer than a seller's 90 s, twice (the SDK repeats a pending settle)
HEADERS = {1: "X-PAYMENT", 2: "PAYMENT-SIGNATURE"}
RECEIPTS = ("PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE")
AUTHORIZATION = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(slots=True)
class Purchase:
    """What the buyer was told. status 0: no answer, then see `error`. payloads: the payments sent."""

    status: int = 0
    body: Any = None
    receipt: dict[str, Any] | None = None
    payloads: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    elapsed_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def nonces(self) -> list[str]:
        return [payload["payload"]["authorization"]["nonce"].lower() for payload in self.payloads]

    @property
    def delivered(self) -> bool:
        return self.status == 200


class _Recording(httpx.AsyncBaseTransport):
    """Keeps every payment that passes."""

    def __init__(self, payloads: list[dict[str, Any]]) -> None:
        self._payloads = payloads
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for header in HEADERS.values():
            if header in request.headers:
                self._payloads.append(json.loads(base64.b64decode(request.headers[header])))
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def buy(url: str, account: LocalAccount, *, timeout_s: float = TIMEOUT_S) -> Purchase:
    """One GET with the SDK's client, which pays when asked to. Never raises: see Purchase.error."""
    purchase = Purchase()
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(account))
    transport = x402AsyncTransport(client, _Recording(purchase.payloads))
    async with httpx.AsyncClient(transport=transport, timeout=timeout_s) as http:
        return await _get(http, url, {}, purchase)


async def send_payment(url: str, payload: dict[str, Any], *, timeout_s: float = TIMEOUT_S) -> Purchase:
    """GET with a payment that was signed before."""
    header = HEADERS[payload["x402Version"]]
    encoded = base64.b64encode(json.dumps(payload).encode()).decode()
    async with httpx.AsyncClient(timeout=timeout_s) as http:
        return await _get(http, url, {header: encoded}, Purchase(payloads=[payload]))


def buy_now(url: str, account: LocalAccount, *, timeout_s: float = TIMEOUT_S) -> Purchase:
    """`buy` for callers outside asyncio."""
    return asyncio.run(buy(url, account, timeout_s=timeout_s))


async def _get(http: httpx.AsyncClient, url: str, headers: dict[str, str], purchase: Purchase) -> Purchase:
    started = time.monotonic()
    try:
        response = await http.get(url, headers=headers)
    except (
        Exception
    ) as error:  # the SDK wraps whatever happened; the text and its cause are what a buyer sees
        purchase.error = f"{type(error).__name__}: {error}" + (
            f" <- {error.__cause__!r}" if error.__cause__ else ""
        )
    else:
        purchase.status, purchase.headers = response.status_code, dict(response.headers)
        purchase.body = _json_or_text(response)
        found = next((response.headers[name] for name in RECEIPTS if name in response.headers), None)
        purchase.receipt = json.loads(base64.b64decode(found)) if found else None
    purchase.elapsed_s = time.monotonic() - started
    return purchase


def _json_or_text(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def sign_payment(
    chain: Chain,
    account: LocalAccount,
    pay_to: str,
    amount: int,
    *,
    version: int = 2,
    resource: str = "http://127.0.0.1/weather",
    valid_for_s: int = 300,
    nonce: str | None = None,
    payer: str | None = None,
) -> dict[str, Any]:
    """The body for /verify and /settle, signed as the SDKs sign it (validAfter 0).

    payer: a wallet that account owns; its signature still needs wallet_signature().
    """
    nonce = "0x" + (nonce or secrets.token_hex(32)).removeprefix("0x")
    message: dict[str, Any] = {
        "from": payer or account.address,
        "to": pay_to,
        "value": amount,
        "validAfter": 0,
        "validBefore": int(time.time()) + valid_for_s,
        "nonce": bytes.fromhex(nonce[2:]),
    }
    signed = account.sign_typed_data(chain.domain(), {"TransferWithAuthorization": AUTHORIZATION}, message)
    authorization = {name: str(value) for name, value in message.items()} | {"nonce": nonce}
    payload = {"signature": "0x" + bytes(signed.signature).hex(), "authorization": authorization}
    terms = {"scheme": "exact", "payTo": pay_to, "asset": TOKEN, "maxTimeoutSeconds": valid_for_s}
    terms |= {"extra": {"name": "USDC", "version": "2"}}
    if version == 1:
        terms |= {"network": "base-sepolia", "maxAmountRequired": str(amount), "resource": resource}
        terms |= {"description": "weather", "mimeType": "application/json"}
        signed_part = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload}
    else:
        terms |= {"network": chain.network, "amount": str(amount)}
        signed_part = {"x402Version": 2, "resource": {"url": resource}, "accepted": terms, "payload": payload}
    return {"x402Version": version, "paymentPayload": signed_part, "paymentRequirements": terms}
