"""A real EVM chain for tests and the demo: anvil, with a token of our own at USDC's address on Base Sepolia.

    with Chain(mining=1.0) as chain:            # a block a second; "auto": per transaction; None: by hand
        payer = chain.new_payer(amount=1_000_000)     # eth_account LocalAccount with tokens
        chain.url, chain.ws_url, chain.chain_id, chain.network, chain.token
        chain.fund(address, amount); chain.fund_gas(address); chain.balance(address)
        chain.mine(3); chain.set_automine(True); chain.set_interval(1); chain.stop_mining()
        chain.advance_time(400)
        chain.transfers(payer=..., pay_to=...)        # list[Transfer] from the logs
        chain.pending_transactions(); chain.drop_transactions(); chain.drop_transactions([tx])
        id = chain.snapshot(); chain.revert(id)
        chain.authorization_state(payer, nonce); chain.uses(payer, nonce)
        chain.cancel_authorization(payer_key, nonce); chain.broadcast_authorization(authorization, signature)
        wallet = chain.new_wallet(owner.address, amount)   # ERC-1271; sign with wallet_signature()
        chain.rpc("any_method", ...)

Everything blocks; from async code call it through asyncio.to_thread. Uses urllib and eth_account, no web3:
it must not share faults with the code under test.
"""

import itertools
import json
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from guardian.sandbox.node import SandboxError, npm_packages
from guardian.sandbox.process import Process

ANVIL = {"@foundry-rs/anvil": "1.7.1"}
BASE_SEPOLIA = 84532
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11"
BALANCES_SLOT = 1  # of `balanceOf` in token.sol
RPC_TIMEOUT_S = 20.0
GAS_WEI = 100 * 10**18
UNLOCKED = 9  # the anvil account that sends the sandbox's own transactions

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
USED = "0x" + keccak(text="AuthorizationUsed(address,bytes32)").hex()
CANCELED = "0x" + keccak(text="AuthorizationCanceled(address,bytes32)").hex()
BYTES_OVERLOAD = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"

Mining = float | Literal["auto"] | None


class RpcError(RuntimeError):
    """The node answered a JSON-RPC error."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One Transfer event. Addresses are lower case, amount in atomic units."""

    payer: str
    pay_to: str
    amount: int
    transaction: str
    block: int


@dataclass(frozen=True, slots=True)
class NonceUse:
    """One AuthorizationUsed or AuthorizationCanceled event."""

    cancelled: bool
    transaction: str
    block: int


def anvil_binary() -> Path:
    """anvil's own binary, installed from npm on the first use. Raises SandboxError when it cannot be."""
    where = npm_packages("anvil", ANVIL)
    found = sorted(where.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*"))
    if not found:
        raise SandboxError(
            f"npm has no anvil for this platform (looked in {where}); it has Linux, macOS and Windows"
        )
    found[0].chmod(0o755)
    return found[0]


def wallet_signature(owner_signature: bytes) -> bytes:
    """The owner's 65 bytes as the sandbox's ERC-1271 wallet wants them: 66 bytes, 0x01 first."""
    return b"\x01" + owner_signature


def _topic(address: str) -> str:
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")


def _word(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")


class Chain:
    """A running anvil with the token in place. Stop it with `stop()` or as a context manager."""

    def __init__(
        self,
        *,
        mining: Mining = 1.0,
        chain_id: int = BASE_SEPOLIA,
        port: int = 0,
        log: Path | None = None,
        slots_in_an_epoch: int | None = None,
    ) -> None:
        log = log or Path(tempfile.mkdtemp(prefix="sandbox-")) / "anvil.log"
        command = [
            str(anvil_binary()),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--chain-id",
            str(chain_id),
        ]
        command += ["--block-time", str(mining)] if isinstance(mining, float | int) else []
        command += ["--no-mining"] if mining is None else []
        command += ["--slots-in-an-epoch", str(slots_in_an_epoch)] if slots_in_an_epoch is not None else []
        self.chain_id = chain_id
        self.network = f"eip155:{chain_id}"
        self.token = TOKEN
        self._ids = itertools.count(1)
        self.process = Process("anvil", command, log)
        try:
            self.port = self._listening_port()
            self.url = f"http://127.0.0.1:{self.port}"
            self.ws_url = f"ws://127.0.0.1:{self.port}"
            self._set_up()
        except BaseException:
            self.process.stop()
            raise

    def _listening_port(self) -> int:
        pattern = re.compile(r"Listening on 127\.0\.0\.1:(\d+)")
        self.process.wait_until(lambda: pattern.search(self.process.log_text()) is not None)
        found = pattern.search(self.process.log_text())
        assert found is not None
        return int(found[1])

    def _set_up(self) -> None:
        codes = json.loads((Path(__file__).parent / "token.json").read_text())["runtime"]
        self._wallet_code: str = codes["Wallet"]
        self.rpc("anvil_setCode", TOKEN, codes["Token"])
        self.rpc("anvil_setCode", MULTICALL, codes["Multicall"])
        self._sender: str = self.rpc("eth_accounts")[UNLOCKED]
        self.mine(1)  # so that reads at a block number see the code

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the node

    def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call. Raises RpcError."""
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        request = urllib.request.Request(
            self.url, json.dumps(call).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=RPC_TIMEOUT_S) as reply:
            answer = json.load(reply)
        if "error" in answer:
            raise RpcError(f"{method}: {answer['error'].get('message', answer['error'])}")
        return answer["result"]

    @property
    def head(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def time(self) -> int:
        """The latest block's timestamp."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    # --- blocks

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def set_automine(self, on: bool) -> None:
        """On: a block per transaction (what waits is mined at once). Off: no blocks until told."""
        if on:
            self.rpc("evm_setIntervalMining", 0)
            self.rpc("evm_setAutomine", True)
            self.mine(1)
        else:
            self.stop_mining()

    def set_interval(self, seconds: int) -> None:
        """A block each so many whole seconds (anvil takes no fractions here; the constructor does)."""
        self.rpc("evm_setIntervalMining", seconds)

    def stop_mining(self) -> None:
        """Transactions stay in the mempool until mine(), set_interval() or set_automine(True)."""
        self.rpc("evm_setIntervalMining", 0)
        self.rpc("evm_setAutomine", False)

    def advance_time(self, seconds: int) -> None:
        """Lets the chain's clock jump ahead and mines a block there; it stays ahead of the wall clock."""
        self.rpc("evm_increaseTime", seconds)
        self.mine(1)

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to the snapshot: a reorganisation as far as readers can tell."""
        if not self.rpc("evm_revert", snapshot):
            raise SandboxError(f"no such snapshot {snapshot}")

    # --- the mempool

    def pending_transactions(self) -> list[dict[str, Any]]:
        """What waits in the mempool, as eth_getTransactionByHash shows it."""
        content = self.rpc("txpool_content")
        return [
            tx
            for kind in ("pending", "queued")
            for by_nonce in content[kind].values()
            for tx in by_nonce.values()
        ]

    def drop_transactions(self, transactions: Sequence[str] | None = None) -> None:
        """Forget these waiting transactions; without an argument all of them."""
        if transactions is None:
            self.rpc("anvil_dropAllTransactions")
        for transaction in transactions or ():
            self.rpc("anvil_dropTransaction", transaction)

    # --- money

    def balance(self, address: str) -> int:
        """Tokens, atomic units (6 decimals)."""
        return int(self._read("balanceOf(address)", ["address"], [address]), 16)

    def fund(self, address: str, amount: int) -> None:
        """Adds tokens at once, without a transaction (also while mining is stopped; no Transfer event)."""
        slot = "0x" + keccak(_word(address) + BALANCES_SLOT.to_bytes(32, "big")).hex()
        self.rpc(
            "anvil_setStorageAt",
            TOKEN,
            slot,
            "0x" + (self.balance(address) + amount).to_bytes(32, "big").hex(),
        )

    def fund_gas(self, address: str, wei: int = GAS_WEI) -> None:
        self.rpc("anvil_setBalance", address, hex(wei))

    def new_payer(self, amount: int = 1_000_000) -> LocalAccount:
        """A fresh key with tokens (1_000_000 are 1 USDC)."""
        account: LocalAccount = Account.create()
        self.fund(account.address, amount)
        return account

    def new_wallet(self, owner: str, amount: int = 1_000_000) -> str:
        """The address of a fresh ERC-1271 wallet of this owner, with tokens."""
        wallet: str = Account.create().address
        self.rpc("anvil_setCode", wallet, self._wallet_code)
        self.rpc("anvil_setStorageAt", wallet, "0x0", _topic(owner))
        self.fund(wallet, amount)
        return wallet

    def transfers(
        self, token: str = TOKEN, payer: str | None = None, pay_to: str | None = None, from_block: int = 0
    ) -> list[Transfer]:
        """Transfer events in chain order; None matches everybody."""
        topics = [TRANSFER, _topic(payer) if payer else None, _topic(pay_to) if pay_to else None]
        logs = self.rpc(
            "eth_getLogs",
            {"address": token, "topics": topics, "fromBlock": hex(from_block), "toBlock": "latest"},
        )
        return [
            Transfer(
                payer="0x" + log["topics"][1][-40:],
                pay_to="0x" + log["topics"][2][-40:],
                amount=int(log["data"], 16),
                transaction=log["transactionHash"],
                block=int(log["blockNumber"], 16),
            )
            for log in logs
        ]

    # --- authorizations

    def authorization_state(self, payer: str, nonce: str) -> bool:
        """True when the nonce is used or cancelled."""
        types, values = ["address", "bytes32"], [payer, _word(nonce)]
        return bool(int(self._read("authorizationState(address,bytes32)", types, values), 16))

    def uses(self, payer: str, nonce: str) -> list[NonceUse]:
        """What used or cancelled the nonce."""
        topics = [[USED, CANCELED], _topic(payer), _topic(nonce)]
        logs = self.rpc(
            "eth_getLogs", {"address": TOKEN, "topics": topics, "fromBlock": "0x0", "toBlock": "latest"}
        )
        return [
            NonceUse(log["topics"][0] == CANCELED, log["transactionHash"], int(log["blockNumber"], 16))
            for log in logs
        ]

    def cancel_authorization(self, payer_key: str, nonce: str) -> str:
        """Sends the payer's signed cancellation; the transaction's hash (not waited for)."""
        payer: LocalAccount = Account.from_key(payer_key)
        fields = [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]
        signed = payer.sign_typed_data(
            self.domain(),
            {"CancelAuthorization": fields},
            {"authorizer": payer.address, "nonce": _word(nonce)},
        )
        return self._send(
            "cancelAuthorization(address,bytes32,bytes)",
            ["address", "bytes32", "bytes"],
            [payer.address, _word(nonce), bytes(signed.signature)],
        )

    def broadcast_authorization(self, authorization: Mapping[str, str], signature: str) -> str:
        """Somebody else carries the x402 payload's authorization to the chain; the hash (not waited for)."""
        types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
        values = [
            authorization["from"],
            authorization["to"],
            *(int(authorization[name]) for name in ("value", "validAfter", "validBefore")),
            _word(authorization["nonce"]),
            bytes.fromhex(signature.removeprefix("0x")),
        ]
        return self._send(BYTES_OVERLOAD, types, values)

    def receipt(self, transaction: str, limit_s: float = 15.0) -> dict[str, Any]:
        """Waits for the receipt. Raises SandboxError when it does not come."""
        until = time.monotonic() + limit_s
        while (found := self.rpc("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > until:
                raise SandboxError(f"{transaction} was not mined within {limit_s:.0f} s")
            time.sleep(0.05)
        return dict(found)

    def domain(self) -> dict[str, Any]:
        """The token's EIP-712 domain."""
        return {"name": "USDC", "version": "2", "chainId": self.chain_id, "verifyingContract": TOKEN}

    def _read(self, signature: str, types: list[str], values: list[Any]) -> str:
        return str(
            self.rpc("eth_call", {"to": TOKEN, "data": _call_data(signature, types, values)}, "latest")
        )

    def _send(self, signature: str, types: list[str], values: list[Any]) -> str:
        call = {
            "from": self._sender,
            "to": TOKEN,
            "gas": hex(500_000),
            "data": _call_data(signature, types, values),
        }
        return str(self.rpc("eth_sendTransaction", call))


def _call_data(signature: str, types: list[str], values: list[Any]) -> str:
    return "0x" + (keccak(text=signature)[:4] + encode(types, values)).hex()
