"""Presenting a payment to its seller: what counts as the goods, what a refusal says, when to try again.

No records and no decisions about money: those are buy.py's. A seller may be asked again before the block,
because the facilitators of the SDKs then reconcile and it delivers late; after the block, because one
with a guardian of its own delivers from the record. Never in a tight loop.
"""

import re
from dataclasses import dataclass, field

from guardian.errors import BadPayment
from guardian.flow.buy_record import MAX_GOODS_KEPT, Goods
from guardian.upstream.limits import HELD_BYTES
from guardian.upstream.reply import Reply
from guardian.wire.demand import read_demand
from guardian.wire.names import TxHash
from guardian.wire.sent import read_receipt

BODY_IDLE_S = 300.0
"""Between two pieces of a reply: event streams send something every 15 to 60 s."""

LEAST_PAUSE_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0, 10.0

BEGUN_BYTES = 16 * 1024
"""Of a refusal that is too long to be kept: for its evidence."""

MOVED = "moved"
"""Why a payment is in doubt whose seller has sent it on to another address."""

_MOVED = (301, 302, 307, 308)
"""303 is none: by it a seller says that it has done what was asked."""

_HASH = re.compile(r"0x[0-9a-f]{64}")
_BODY_DUE = (200, 203, 206)
"""A success with another status says all with its head."""


@dataclass(slots=True)
class Said:
    """What an upstream answered in place of the goods. status: 0 for no answer; reason, message and hint
    as it tells them; answer: all of it, where it was short enough to be kept; begun: else its beginning."""

    status: int = 0
    reason: str = ""
    message: str = ""
    hint: TxHash | None = None
    answer: Goods | None = None
    begun: bytes = b""

    @property
    def held(self) -> tuple[bytes, bool]:
        """What of its body was read, and whether that is all."""
        return (self.answer.body, True) if self.answer is not None else (self.begun, False)

    def reply(self) -> Reply | None:
        """To be passed on."""
        return self.answer.reply() if self.answer is not None else None


@dataclass(slots=True)
class Pace:
    """When a payment may be presented again; one for all who wait for it here."""

    next_at: float = 0.0
    asked: int = 0
    paid: bool = field(default=False)

    def shown_paid(self, now: float) -> None:
        """The chain shows it: at once, and then ever more slowly."""
        if not self.paid:
            self.paid, self.asked, self.next_at = True, 0, now

    def after(self, began: float, block_time_s: float) -> None:
        """It was presented at that time. From beginning to beginning: after a seller that took long there
        is no pause, because a block that came in it would come too late for a facilitator to reconcile."""
        first_s = min(max(block_time_s / 2, LEAST_PAUSE_S), FIRST_PAUSE_S)
        self.next_at = began + min(first_s * 2.0 ** min(self.asked, 10), LONGEST_PAUSE_S)
        self.asked += 1


def is_elsewhere(reply: Reply) -> bool:
    """Whether the seller sends its caller on and does not say that it was paid: a slash too few, http in the
    place of https. Nothing was delivered; the payment goes along to where it is taken."""
    return reply.status in _MOVED and not told_paid(reply)[0]


async def is_goods(reply: Reply, method: str) -> bool:
    """Whether this is what was paid for: a success, not empty where a body is due. A short body whose
    length is known is waited for, so that one that breaks off can still be asked for again. Raises
    ReplyLost."""
    if not 200 <= reply.status < 400:
        return False
    if reply.status not in _BODY_DUE or method == "HEAD" or _streams_events(reply):
        return True
    length = _length(reply)
    if length == 0:
        return False
    if length is not None and length <= HELD_BYTES:
        await reply.gathered(HELD_BYTES, BODY_IDLE_S)
        return True
    return not await reply.gathered(0, BODY_IDLE_S)


async def kept_goods(reply: Reply) -> Goods | None:
    """The whole reply, for somebody else to take later; None where it is too long. Raises ReplyLost."""
    parts, size = [], 0
    while (part := await reply.read(BODY_IDLE_S)) is not None:
        parts.append(part)
        size += len(part)
        if size > MAX_GOODS_KEPT:
            return None
    return Goods(reply.status, list(reply.headers), b"".join(parts))


def copied(reply: Reply) -> Goods | None:
    """The same of one that is all here already, which stays as it is."""
    if not reply.whole or reply.held > MAX_GOODS_KEPT:
        return None
    body = reply.take()
    if body:
        reply.feed(body)
    return Goods(reply.status, list(reply.headers), body)


async def said(reply: Reply) -> Said:
    """What a reply that is not the goods says. Raises ReplyLost."""
    short = await reply.gathered(HELD_BYTES, BODY_IDLE_S)
    body = reply.take()
    answer = Goods(reply.status, list(reply.headers), body) if short else None
    reason, message, hint = f"http_{reply.status}", "", None
    try:
        if (receipt := read_receipt(reply.headers)) is not None:
            message = f"{receipt.reason} {receipt.message}".strip()
            hint = as_hash(receipt.transaction)
        elif answer is not None and reply.status == 402:
            demand = read_demand(reply.headers, answer.body)
            message = demand.error if demand else ""
    except BadPayment as fault:
        message = str(fault)
    return Said(reply.status, reason, message, hint, answer, b"" if short else body[:BEGUN_BYTES])


def told_paid(reply: Reply) -> tuple[bool, TxHash | None]:
    """Whether the seller says that it was paid, and by which transaction."""
    try:
        receipt = read_receipt(reply.headers)
    except BadPayment:
        return False, None
    if receipt is None or receipt.success is not True:
        return False, None
    return True, as_hash(receipt.transaction)


def as_hash(text: str) -> TxHash | None:
    """A transaction's hash, where it is one."""
    return TxHash(text.lower()) if _HASH.fullmatch(text.lower()) else None


def _streams_events(reply: Reply) -> bool:
    return any(name == b"content-type" and b"event-stream" in value for name, value in reply.headers)


def _length(reply: Reply) -> int | None:
    for name, value in reply.headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
