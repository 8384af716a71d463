"""What logs, receipts and pending transactions say about one EIP-3009 authorization. Pure.

The one place that decides what counts as a payment (law 3): a use of the nonce alone is none, a
transfer alone is none, a hash alone is none. Sources: EIP-3009, x402 reference §6.1.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from guardian.chain.endpoint import quantity
from guardian.chain.target import Target
from guardian.errors import ChainUnavailable
from guardian.wire.names import TxHash

AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
AUTHORIZATION_CANCELED = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
AUTHORIZATION_STATE = "0xe94a0102"
SPENDING_SELECTORS = ("0xe3ee160e", "0xcf092995", "0xef55bec6", "0x88b7ab63")
"""transferWithAuthorization and receiveWithAuthorization, each with (v, r, s) and with bytes."""

NONCE_AT = 10 + 5 * 64
"""Where the nonce stands in the calldata of those four: after from, to, value and two times."""

WORD = 64

_HEX = re.compile(r"[0-9a-f]*")


class Use(Enum):
    """What one receipt says about one authorization."""

    PAID = "paid"
    MISMATCH = "mismatch"
    CANCELLED = "cancelled"
    REVERTED = "reverted"
    UNRELATED = "unrelated"


@dataclass(frozen=True, slots=True)
class Log:
    """An event: its topic0 and all its words, indexed or not, as 64 hex digits each."""

    address: str
    topic: str
    words: tuple[str, ...]
    transaction: TxHash


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction in a block of the node's canonical chain, logs in the order of emission."""

    transaction: TxHash
    block: int
    succeeded: bool
    logs: tuple[Log, ...]


def word(found: str) -> str:
    """An address or number in hex as 64 digits."""
    return found.lower().removeprefix("0x").rjust(WORD, "0")


def read_log(found: Any) -> Log | None:
    """A log object; None for one that was removed by a reorganisation or has no topic.

    Raises ChainUnavailable on nonsense.
    """
    try:
        if found.get("removed"):
            return None
        topics = [str(topic).lower() for topic in found["topics"]]
        data = str(found["data"]).lower().removeprefix("0x")
        transaction = TxHash(str(found["transactionHash"]).lower())
        address = str(found["address"]).lower()
    except (AttributeError, KeyError, TypeError):
        raise ChainUnavailable("an answer is no log") from None
    if not topics:
        return None
    unindexed = [data[at : at + WORD] for at in range(0, len(data), WORD)]
    words = (*map(word, topics[1:]), *unindexed)
    if not all(map(_HEX.fullmatch, words)):
        raise ChainUnavailable("an answer is no log")
    return Log(address, topics[0], words, transaction)


def read_receipt(found: Any) -> Receipt | None:
    """A receipt object; None where the node has none (yet). Raises ChainUnavailable on nonsense."""
    if found is None:
        return None
    try:
        logs = sorted(found["logs"], key=lambda entry: quantity(entry["logIndex"]))
        transaction = TxHash(str(found["transactionHash"]).lower())
        number, status = quantity(found["blockNumber"]), quantity(found["status"])
    except (KeyError, TypeError):
        raise ChainUnavailable("an answer is no receipt") from None
    kept = tuple(log for log in map(read_log, logs) if log is not None)
    if any(log.transaction != transaction for log in kept):
        raise ChainUnavailable("a receipt holds another transaction's logs")
    return Receipt(transaction, number, status == 1, kept)


def judge(receipt: Receipt, target: Target) -> tuple[Use, str]:
    """What this transaction did with this authorization, and the detail of a mismatch."""
    if not receipt.succeeded:
        return Use.REVERTED, ""
    events = [log for log in receipt.logs if log.address == target.asset]
    payer, nonce = word(target.payer), word(target.nonce)
    if any(e.topic == AUTHORIZATION_CANCELED and e.words[:2] == (payer, nonce) for e in events):
        return Use.CANCELLED, ""
    if not any(e.topic == AUTHORIZATION_USED and e.words[:2] == (payer, nonce) for e in events):
        return Use.UNRELATED, ""
    made = _transfers_of(events, payer, nonce)
    payee = word(target.pay_to)
    if any(to == payee and amount >= target.amount for to, amount in made):  # x402-rs lets payers sign more
        return Use.PAID, ""
    if not made:
        return Use.MISMATCH, "the nonce was used and no transfer from the payer stands beside it"
    to, amount = made[0]
    return Use.MISMATCH, f"the nonce was used to pay {amount} to 0x{to[24:]}"


def _transfers_of(events: list[Log], payer: str, nonce: str) -> list[tuple[str, int]]:
    """(payee word, amount) of the payer's transfers that this use of a nonce accounts for.

    Several authorizations of one payer may share a transaction: then each has its own transfer,
    the one of the same rank, so that one transfer never proves two payments.
    """
    uses = [
        e.words[1]
        for e in events
        if e.topic == AUTHORIZATION_USED and e.words[:1] == (payer,) and len(e.words) > 1
    ]
    made = [
        (e.words[1], int(e.words[2], 16))
        for e in events
        if e.topic == TRANSFER and len(e.words) == 3 and e.words[0] == payer
    ]
    if len(uses) == 1:
        return made
    rank = uses.index(nonce)
    return made[rank : rank + 1] if len(made) == len(uses) else _following(events, payer, nonce)


def _following(events: list[Log], payer: str, nonce: str) -> list[tuple[str, int]]:
    """The payer's first transfer between this use of a nonce and the next one."""
    inside = False
    for event in events:
        if event.topic == AUTHORIZATION_USED:
            inside = event.words[:2] == (payer, nonce)
        elif inside and event.topic == TRANSFER and len(event.words) == 3 and event.words[0] == payer:
            return [(event.words[1], int(event.words[2], 16))]
    return []


def read_flag(found: object) -> bool:
    """The boolean that authorizationState returned; an empty answer (no such contract) is none."""
    if not isinstance(found, str) or len(found) != 2 + WORD:
        raise ChainUnavailable("an answer is no flag")
    value = quantity(found)
    if value > 1:
        raise ChainUnavailable("an answer is no flag")
    return value == 1


def state_calldata(target: Target) -> str:
    """The call authorizationState(payer, nonce)."""
    return AUTHORIZATION_STATE + word(target.payer) + word(target.nonce)


def spenders(transactions: Iterable[Any], wanted: Mapping[str, str]) -> dict[str, TxHash]:
    """Pending transactions that carry a nonce: {key: hash}. wanted: nonce word → key.

    The four selectors name the nonce's place; in any other calldata (routers, bundles, wallets) the
    nonce is searched for. A find is a hint, never a proof: anybody can put 32 bytes into calldata.
    """
    found: dict[str, TxHash] = {}
    for transaction in transactions:
        if not isinstance(transaction, dict):
            continue
        data, digest = transaction.get("input"), transaction.get("hash")
        if not isinstance(data, str) or not isinstance(digest, str) or len(data) < 2 + WORD:
            continue
        data = data.lower()
        for key in _carried(data, wanted):
            found.setdefault(key, TxHash(digest.lower()))
    return found


def _carried(data: str, wanted: Mapping[str, str]) -> list[str]:
    if data.startswith(SPENDING_SELECTORS):
        key = wanted.get(data[NONCE_AT : NONCE_AT + WORD])
        return [key] if key else []
    return [key for nonce, key in wanted.items() if nonce in data]
