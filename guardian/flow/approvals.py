"""Payments that wait for a person: asked for, approved or denied, and used once. Kept in the ledger's papers.

An approval is of a purchase (caller, payer, payee, asset, network, amount, method and URL), so that the
agent may sign again for the same; whatever differs waits for an approval of its own. How many a caller asks
for in a day is counted as payments are, so that none of them fills the store for the others.
"""

import hashlib
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from guardian.errors import CannotDecide, StoreUnavailable
from guardian.flow.by_hand import said, said_by
from guardian.flow.parts import Parts, log
from guardian.policy.budget import Denial
from guardian.settlement.record import Settlement
from guardian.store.ledger import LISTED, MAX_PAPERS, Ask, Line, Swap

DAY_S: Final = 86400.0

KEPT_S: Final = DAY_S
"""How long a budget is kept after its end: more than clocks of replicas may be apart."""

WAITS_S: Final = DAY_S
"""How long one that nobody has decided is listed, and one that was denied stays denied."""

LONGEST_S: Final = 7 * 86400.0
"""The longest that a person may let an approval last."""

PREFIX: Final = "approval/"

MAX_ASKED: Final = 500
"""Approvals that one caller may ask for in a day (UTC): more than people decide, and a part of MAX_PAPERS."""

_TRIES: Final = 3


class State(StrEnum):
    """What has become of an approval."""

    ASKED = "asked"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One approval. until: Unix seconds, when its state is over; by and note: of the person who decided;
    used_for: the key of the payment that it let pass."""

    id: str
    state: State = State.ASKED
    rule: str
    route: str
    caller: str
    payer: str
    pay_to: str
    asset: str
    network: str
    amount: int
    verb: str
    url: str
    asked_at: float
    until: float
    by: str = ""
    note: str = ""
    used_for: str = ""


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Approval)


def approval_id(record: Settlement, caller: str, amount: int) -> str:
    """The public name of the approval of a purchase."""
    facts = (caller, record.payer, record.pay_to, record.asset, record.network, str(amount))
    whole = msgspec.json.encode((*facts, record.verb, record.resource))
    return "apr_" + hashlib.sha256(whole).hexdigest()[:32]


class Approvals:
    """All that wait, and those that were decided. Every method raises StoreUnavailable."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def use(self, record: Settlement, caller: str, amount: int, rule: str) -> Swap | Approval | Denial:
        """What a hold has to change in order to use one up; or the one that has to be waited for; or why
        there is none."""
        id = approval_id(record, caller, amount)
        for _ in range(_TRIES):
            text = await self._parts.store.ledger.paper(PREFIX + id)
            known = _decoder.decode(text) if text else None
            now = self._parts.clock()
            if (found := _usable(known, text, record.key, now)) is not None:
                return found
            if not await self._may_ask(id, caller, now):
                why = f"this caller has asked for {MAX_ASKED} approvals today (UTC)"
                return Denial(rule, "approve_above", f"{why}; have some decided, and ask again tomorrow")
            asked = _asked(id, record, caller, amount, rule, now)
            swap = Swap(PREFIX + id, text, _text(asked))
            if await self._parts.store.ledger.swap(swap, asked.until, now):
                log.warning("a payment waits for approval", extra={"approval": id, "rule": rule})
                return asked
        raise StoreUnavailable("too many approvals wait, or this one is just being decided")

    async def _may_ask(self, id: str, caller: str, now: float) -> bool:
        """Count one more of a caller's, the same only once a day."""
        begins = now - now % DAY_S
        day = datetime.fromtimestamp(begins, UTC).strftime("%Y-%m-%d")
        budget = msgspec.json.encode(("approvals", "asked", caller, "", "", day)).decode()
        line = Line(budget, "1", str(MAX_ASKED), begins + DAY_S + KEPT_S)
        ask = Ask(f"asked/{day}/{id}", secrets.token_hex(8), now, (line,))
        outcome = await self._parts.store.ledger.hold(ask)
        if outcome.held:
            await self._parts.store.ledger.settle(ask.key)  # nothing gives it back
        return outcome.held

    async def all(self) -> list[Approval]:
        """Those that are not over, oldest first."""
        now, found, after = self._parts.clock(), list[Approval](), ""
        for _ in range(MAX_PAPERS // LISTED + 1):
            page = await self._parts.store.ledger.papers(PREFIX, after)
            found += [_decoder.decode(text) for text in page.values()]
            if len(page) < LISTED:
                break
            after = max(page)
        return sorted((one for one in found if one.until > now), key=lambda one: one.asked_at)

    async def decide(
        self, id: str, approve: bool, by: str, note: str = "", lasts_s: float | None = None
    ) -> Approval | None:
        """Approve of one, or deny it; None where there is none. lasts_s: in place of the policy's. Raises
        CannotDecide."""
        who, why = said_by(by, CannotDecide), said("note", note, CannotDecide)
        if lasts_s is None:
            lasts_s = self._parts.policy.spending.approvals_last_s
        if not 0 < lasts_s <= LONGEST_S:
            raise CannotDecide(f"lasts: {lasts_s:g} s cannot be; give at most {LONGEST_S / 86400:g}d")
        for _ in range(_TRIES):
            text = await self._parts.store.ledger.paper(PREFIX + id)
            known = _decoder.decode(text) if text else None
            now = self._parts.clock()
            if known is None or known.until <= now:
                return None
            if known.state is State.USED:
                raise CannotDecide(f"{id} was used by its payment already")
            state, until = (State.APPROVED, now + lasts_s) if approve else (State.DENIED, now + WAITS_S)
            decided = msgspec.structs.replace(known, state=state, by=who, note=why, until=until)
            ends_at = max(decided.until, now + WAITS_S)
            if await self._parts.store.ledger.swap(Swap(PREFIX + id, text, _text(decided)), ends_at):
                log.warning("approval decided", extra={"approval": id, "how": str(state), "by": who})
                return decided
        raise CannotDecide(f"{id} is just being used or decided; look again")


def _usable(known: Approval | None, text: str, key: str, now: float) -> Swap | Approval | None:
    """How the payment of a key uses an approval up, or the one that it waits for; None to ask anew."""
    if known is None:
        return None
    name = PREFIX + known.id
    if known.state is State.USED:
        return Swap(name, text, text) if known.used_for == key else None
    if known.until <= now:
        return None
    if known.state is not State.APPROVED:
        return known
    return Swap(name, text, _text(msgspec.structs.replace(known, state=State.USED, used_for=key)))


def _asked(id: str, record: Settlement, caller: str, amount: int, rule: str, now: float) -> Approval:
    return Approval(
        id=id,
        rule=rule,
        route=record.route,
        caller=caller,
        payer=record.payer,
        pay_to=record.pay_to,
        asset=record.asset,
        network=record.network,
        amount=amount,
        verb=record.verb,
        url=record.resource,
        asked_at=now,
        until=now + WAITS_S,
    )


def _text(approval: Approval) -> str:
    return _encoder.encode(approval).decode()
