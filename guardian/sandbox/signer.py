"""The facilitator's signer: the SDK's own, with a say in how long it waits and in its transaction's fate.

A Plan travels with each request in a context variable (asyncio.to_thread carries it into the SDK's thread).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eth_account import Account
from eth_typing import HexStr
from web3.exceptions import TimeExhausted
from web3.types import RPCEndpoint
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.mechanisms.evm.types import TransactionReceipt

GAS_WEI = 10 * 10**18
NONCE_ARGUMENT = 5  # of transferWithAuthorization


class Fate(StrEnum):
    """What becomes of the broadcast transaction."""

    MINED = "mined"
    CANCELLED = "cancelled"  # replaced by an empty transaction with the same account nonce
    REPLACED = (
        "replaced"  # another transaction carries the same authorization, the reported hash is never mined
    )
    STUCK = "stuck"  # waits behind a gap in the account's nonces


@dataclass(slots=True)
class Plan:
    """How this request is to go. give_up_after_s: None waits for the receipt as the SDK does."""

    fate: Fate = Fate.MINED
    give_up_after_s: float | None = None
    broadcasts: list[str] = field(default_factory=list)


PLAN: ContextVar[Plan] = ContextVar("plan")


class SandboxSigner(FacilitatorWeb3Signer):
    """on_broadcast(nonce, transaction) is called for every payment transaction that went out."""

    def __init__(
        self, key: str, rpc_url: str, confirmation_timeout_s: float, on_broadcast: Callable[[str, str], None]
    ) -> None:
        super().__init__(key, rpc_url, confirmation_timeout_seconds=confirmation_timeout_s)
        self._rpc_url = rpc_url
        self._on_broadcast = on_broadcast
        self._stuck: list[FacilitatorWeb3Signer] = []
        self._replacing = threading.Lock()
        self._rpc("anvil_setBalance", self.address, hex(GAS_WEI))

    def write_contract(
        self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any, **more: Any
    ) -> str:
        plan = PLAN.get(Plan())
        sent = self._send(plan.fate, (address, abi, function_name, *args), more)
        plan.broadcasts.append(sent)
        nonce = args[NONCE_ARGUMENT] if len(args) > NONCE_ARGUMENT else b""
        self._on_broadcast("0x" + bytes(nonce).hex(), sent)
        return sent

    def wait_for_transaction_receipt(self, tx_hash: str) -> TransactionReceipt:
        limit_s = PLAN.get(Plan()).give_up_after_s
        if limit_s is None:
            return super().wait_for_transaction_receipt(tx_hash)
        time.sleep(limit_s)
        raise TimeExhausted(f"Transaction {tx_hash} is not in the chain after {limit_s} seconds")

    def release(self) -> int:
        """Fills the gaps before the stuck transactions; how many there were."""
        stuck, self._stuck = self._stuck, []
        for signer in stuck:
            signer._next_nonce = 0
            signer.send_transaction(signer.address, b"")
        return len(stuck)

    def _send(self, fate: Fate, call: tuple[Any, ...], more: dict[str, Any]) -> str:
        if fate is Fate.STUCK:
            return self._send_stuck(call, more)
        if fate is Fate.MINED:
            return str(super().write_contract(*call, **more))
        with self._replacing, self._no_blocks():
            first = str(super().write_contract(*call, **more))
            self._replace(first, keep_call=fate is Fate.REPLACED)
        return first

    def _send_stuck(self, call: tuple[Any, ...], more: dict[str, Any]) -> str:
        signer = FacilitatorWeb3Signer("0x" + bytes(Account.create().key).hex(), self._rpc_url)
        self._rpc("anvil_setBalance", signer.address, hex(GAS_WEI))
        signer._next_nonce = 1
        self._stuck.append(signer)
        return str(signer.write_contract(*call, **more))

    def _replace(self, first: str, *, keep_call: bool) -> None:
        old = self._w3.eth.get_transaction(HexStr(first))
        new = {
            "nonce": old["nonce"],
            "gas": old["gas"],
            "gasPrice": old["gasPrice"] * 2,
            "chainId": self.get_chain_id(),
            "to": old["to"] if keep_call else self.address,
            "data": old["input"] if keep_call else b"",
            "value": 0,
        }
        self._w3.eth.send_raw_transaction(self._account.sign_transaction(new).raw_transaction)

    @contextmanager
    def _no_blocks(self) -> Iterator[None]:
        """Holds the chain while a transaction is replaced, so that the race always ends the same way."""
        automine, interval = self._rpc("anvil_getAutomine"), self._rpc("anvil_getIntervalMining")
        self._rpc("evm_setIntervalMining", 0)
        self._rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            if automine:
                self._rpc("evm_setAutomine", True)
                self._rpc("evm_mine")
            elif interval:
                self._rpc("evm_setIntervalMining", interval)

    def _rpc(self, method: str, *params: Any) -> Any:
        reply = self._w3.provider.make_request(RPCEndpoint(method), list(params))
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]
