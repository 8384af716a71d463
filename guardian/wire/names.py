"""The field's names as types, so that a payer is never handed in for a payee; and a payment's own name. No
I/O."""

import hashlib
from typing import NewType

Network = NewType("Network", str)
"""A CAIP-2 id, e.g. `eip155:8453`; a v1 name that no table knows stays as it was sent."""

Address = NewType("Address", str)
"""An account or token; EVM addresses in lower case with 0x, others as sent."""

Nonce = NewType("Nonce", str)
"""What makes an authorization unique: EIP-3009 0x + 64 hex in lower case, others by scheme."""

TxHash = NewType("TxHash", str)
"""A transaction id as the chain writes it; EVM 0x + 64 hex in lower case."""


def public_id(key: str) -> str:
    """The public short form of a payment's key, the same wherever it is asked for."""
    return "pay_" + hashlib.sha256(key.encode()).hexdigest()[:32]
