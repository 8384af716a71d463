"""What is watched on an EVM chain, and what can be found out about it: values only, no I/O.

A target is one EIP-3009 authorization, known by (asset, payer, nonce) before it is ever broadcast.
`Paid`, `Cancelled` and `Expired` are proofs and end a watch. `Mismatch` ends it too: the nonce is
spent, and not on this payment. All others are news. An absence of findings says nothing. After a
`Paid` that was told before finality a `Reorged` may still come, and begins the watch anew.
"""

from dataclasses import dataclass

from guardian.wire.names import Address, Nonce, TxHash


@dataclass(frozen=True, slots=True)
class Target:
    """One authorization under watch. Addresses and nonce as 0x + lower-case hex.

    key: the settlement's identity; amount: atomic units; valid_before: Unix seconds, None where
    the scheme names none (no expiry can then be proven); hint: a hash somebody reported, which
    proves nothing; from_block_time: Unix seconds when the guardian first saw the authorization,
    from which the chain's past is searched; urgent: a caller waits, so it goes before others where
    the endpoints' budget does not allow all.
    """

    key: str
    asset: Address
    payer: Address
    pay_to: Address
    amount: int
    nonce: Nonce
    valid_before: int | None = None
    hint: TxHash | None = None
    from_block_time: float = 0.0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Paid:
    """Proof: nonce used and payer → payee of the amount or more, in one transaction, deep enough.

    confirmations: the block's depth, 1 = it is the head.
    """

    transaction: TxHash
    block: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A transaction for this authorization is in the mempool, or in a block not deep enough."""

    transaction: TxHash


@dataclass(frozen=True, slots=True)
class Unused:
    """As of this head the nonce is unused. in_mempool: a transaction for it is waiting."""

    block: int
    in_mempool: bool


@dataclass(frozen=True, slots=True)
class Reverted:
    """This transaction failed on chain; another one may still carry the authorization."""

    transaction: TxHash


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Proof at finality: the payer cancelled the nonce, so it can never pay."""

    transaction: TxHash


@dataclass(frozen=True, slots=True)
class Expired:
    """Proof at finality: at this block the time is at or past valid_before, the nonce unused."""

    block: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The nonce was used, and no transfer in that transaction is this payment."""

    transaction: TxHash
    detail: str


@dataclass(frozen=True, slots=True)
class Reorged:
    """A payment told as Paid is gone at the depth of finality, and its nonce unused there.

    The watch goes on by itself: it may be paid again (in another block or transaction) or expire.
    """

    transaction: TxHash


Finding = Paid | Seen | Unused | Reverted | Cancelled | Expired | Mismatch | Reorged
Proof = Paid | Cancelled | Expired | Mismatch
"""Findings after which the chain can say nothing new: the watch of that target ends."""
