"""Purchases on the sandbox's chain, and a running watcher whose findings are waited for."""

import asyncio
import secrets
import time
from typing import Any

from eth_account.signers.local import LocalAccount

from guardian.chain.rpc import Endpoints
from guardian.chain.signature import Authorization
from guardian.chain.target import Finding, Target
from guardian.chain.watcher import Watcher
from guardian.sandbox.chain import Chain, wallet_signature
from guardian.wire.names import Address, Network, Nonce

SHOP = "0x" + "c2" * 20
TYPES = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


class Purchase:
    """A signed authorization on the sandbox's chain, by a key or by a wallet's owner."""

    def __init__(self, chain: Chain, *, lasts_s: int = 300, wallet: bool = False) -> None:
        self.owner: LocalAccount = chain.new_payer()
        self.payer = chain.new_wallet(self.owner.address) if wallet else self.owner.address
        self.nonce = "0x" + secrets.token_hex(32)
        self.fields: dict[str, Any] = {
            "from": self.payer, "to": SHOP, "value": 1000, "validAfter": 0,
            "validBefore": chain.time() + lasts_s, "nonce": self.nonce,
        }  # fmt: skip
        signed = self.owner.sign_typed_data(
            chain.domain(),
            {"TransferWithAuthorization": TYPES},
            self.fields | {"nonce": bytes.fromhex(self.nonce[2:])},
        )
        raw = bytes(signed.signature)
        self.signature = "0x" + (wallet_signature(raw) if wallet else raw).hex()

    def broadcast(self, chain: Chain) -> str:
        return chain.broadcast_authorization({k: str(v) for k, v in self.fields.items()}, self.signature)

    def target(self, chain: Chain) -> Target:
        return Target(
            key=self.nonce, asset=Address(chain.token), payer=Address(self.payer), pay_to=Address(SHOP),
            amount=1000,
            nonce=Nonce(self.nonce), valid_before=self.fields["validBefore"], from_block_time=time.time(),
        )  # fmt: skip

    def authorization(self, chain: Chain, **changes: Any) -> Authorization:
        fields = {
            "chain_id": chain.chain_id, "asset": chain.token, "domain_name": "USDC", "domain_version": "2",
            "payer": self.payer, "to": SHOP, "value": 1000, "valid_after": 0,
            "valid_before": self.fields["validBefore"], "nonce": self.nonce,
        }  # fmt: skip
        return Authorization(**(fields | changes))


class Watching:
    """A running watcher and its findings, to be waited for."""

    def __init__(self, chain: Chain, *urls: str, timeout_s: float = 5.0, **settings: Any) -> None:
        network = Network(chain.network)
        known = {"block_time_s": 0.4, "confirmations": 1, "finality_blocks": 3}
        self.errors: list[str] = []
        self.endpoints = Endpoints(network, urls, timeout_s=timeout_s, on_error=self.errors.append)
        self.watcher = Watcher(
            network, self.endpoints, clock=time.time, on_error=self.errors.append, **(known | settings)
        )
        self.found: asyncio.Queue[Finding] = asyncio.Queue()

    async def __aenter__(self) -> "Watching":
        await self.watcher.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.watcher.stop()

    def watch(self, target: Target) -> None:
        self.watcher.watch(target, self.found.put_nowait)

    async def until(self, kind: type) -> Any:
        async with asyncio.timeout(10):
            while not isinstance(finding := await self.found.get(), kind):
                pass
        return finding
