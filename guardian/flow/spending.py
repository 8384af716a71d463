"""What agents may spend: asked once for each new payment, before it is recorded as sent.

A payment is held against its budgets first and recorded then, so that one which is recorded is always
counted. It is counted no longer only on proof: its record says that it never paid, or there never was
one. What a crash left between the two is found by looking (`settle_up`), when a budget is full and at
the start. The rules are judged in policy/budget.py, the counting is the store's (store/ledger.py).
"""

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from guardian.errors import BadPayment, CannotDecide, SpendingDenied, StoreUnavailable
from guardian.flow.approvals import KEPT_S, Approval, Approvals, State
from guardian.flow.by_hand import said, said_by
from guardian.flow.paid import PaidExchange
from guardian.flow.parts import Parts, log
from guardian.flow.preflight import decimals_of
from guardian.flow.signer import Signer
from guardian.flow.watch import MISMATCH
from guardian.policy.budget import DAY, HOUR, Demand, Denial, Limit, Spend, concerns, judge
from guardian.settlement.record import Settlement
from guardian.settlement.states import PAID, UNPAID, Money, MoneyEvent
from guardian.store.ledger import FOREVER, STOP, Ask, Hold, Line, Swap
from guardian.wire.payment import Method, Payment

CLAIM_WITHIN_S: Final = 20.0
"""A record that was claimed later than this after its hold is held once more before it is sent."""

ABANDONED_S: Final = 600.0
"""A hold of that age without a record never had one: far above CLAIM_WITHIN_S and any two clocks."""

LOOK_EVERY_S: Final = 5.0
TELL_EVERY_S: Final = 10.0
LOOKED_AT: Final = 1000
AT_ONCE: Final = 50

_TRIES: Final = 5
_READABLE: Final = (Method.EIP3009, Method.PERMIT2)
_SPAN_S: Final = {HOUR: 3600.0, DAY: 86400.0}


@dataclass(frozen=True, slots=True)
class Held:
    """A payment counts. since: when that was asked, on a clock that only grows."""

    key: str
    token: str
    since: float

    @property
    def late(self) -> bool:
        """It may be taken for abandoned before long."""
        return time.monotonic() - self.since > CLAIM_WITHIN_S


class Stop(msgspec.Struct, frozen=True):
    """Who stopped all spending, when and why."""

    by: str
    reason: str
    at: float


class Spending:
    """The spending policy in force, and what is counted under it."""

    def __init__(self, parts: Parts) -> None:
        self.approvals = Approvals(parts)
        self._parts = parts
        self._signer = Signer(parts)
        self._looking = asyncio.Lock()
        self._look_at = 0.0
        self._released = 0
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    # -- before a payment is sent

    async def admit(
        self, record: Settlement, payment: Payment, exchange: PaidExchange, *, unknown: bool
    ) -> Held | None:
        """Count a payment that is to be sent; None where no budget is concerned. unknown: whether it is one
        that has no record yet is to be seen; one that has is no new payment. Raises SpendingDenied."""
        spend = self._spend(payment, exchange)
        verdict = await self._verdict(exchange, spend)
        concerned = concerns(exchange.generation.policy.spending, spend.route, spend.host, spend.caller)
        if verdict == Demand() and not concerned:
            return None
        if unknown and await self._parts.store.get(record.key) is not None:
            return None
        if isinstance(verdict, Denial):
            raise self._denied(exchange, verdict)
        await self._signed(record, payment, exchange)
        return await self._hold(record, exchange, spend, verdict) if verdict != Demand() else None

    async def admit_unreadable(self, exchange: PaidExchange) -> None:
        """A payment that cannot be read passes only where no rule wants to know anything of it. Raises
        SpendingDenied."""
        spend = Spend(exchange.route, _host(exchange), exchange.caller)
        verdict = await self._verdict(exchange, spend)
        if isinstance(verdict, Demand) and verdict.limits:
            limit, why = verdict.limits[0], "the payment cannot be read, so it cannot be counted"
            verdict = Denial(limit.rule, limit.key, why)
        if isinstance(verdict, Denial):
            raise self._denied(exchange, verdict)

    async def admit_another(self, payment: Payment, exchange: PaidExchange) -> None:
        """The record is of something else with this nonce, of which the chain takes one: what was counted
        then says nothing of this one, so it passes only where no rule is about it. Raises SpendingDenied."""
        verdict = await self._verdict(exchange, self._spend(payment, exchange))
        if isinstance(verdict, Denial):
            raise self._denied(exchange, verdict)
        if verdict != Demand():
            raise self._denied(exchange, _another(verdict))

    async def _signed(self, record: Settlement, payment: Payment, exchange: PaidExchange) -> None:
        """What somebody else has signed fills nobody's budget, and is judged by no token that it only names.
        Raises SpendingDenied."""
        in_force = exchange.generation.policy.in_force(payment.network, route=exchange.route)
        if (fault := await self._signer.fault(record, payment, in_force)) is not None:
            raise self._denied(exchange, Denial("spending", "signature", str(fault)), fault=fault)

    async def _verdict(self, exchange: PaidExchange, spend: Spend) -> Denial | Demand:
        spending = exchange.generation.policy.spending
        if spending.stop:
            return Denial("spending", "stop", "all spending is stopped by the policy")
        verdict = judge(spending, spend)
        # Nobody is to decide on an approval while all is stopped.
        asks = isinstance(verdict, Demand) and bool(verdict.approval)
        if (asks or verdict == Demand()) and (stop := await self.stopped()) is not None:
            return _stopped(stop)  # what else has to be held asks in the same step
        return verdict

    async def _hold(self, record: Settlement, exchange: PaidExchange, spend: Spend, demand: Demand) -> Held:
        for _ in range(_TRIES):
            now, since = self._parts.clock(), time.monotonic()
            swaps = [Swap(STOP, "", "")]
            if demand.approval:
                swaps.append(await self._approval(record, exchange, spend, demand.approval))
            lines = tuple(_line(limit, now) for limit in demand.limits)
            token = secrets.token_hex(8)
            ask = Ask(record.key, token, now, lines, tuple(swaps), of=record.spend)
            outcome = await self._parts.store.ledger.hold(ask)
            if outcome.held:
                return Held(record.key, token, since)
            if outcome.over is not None:
                if await self.settle_up():
                    continue
                raise self._denied(exchange, _over(demand.limits[outcome.over], outcome.counted))
            if outcome.changed == record.key:
                raise self._denied(exchange, _another(demand))
            if outcome.changed == STOP and (stop := await self.stopped()) is not None:
                raise self._denied(exchange, _stopped(stop))
        raise StoreUnavailable("what is counted changes faster than it can be asked")

    async def _approval(self, record: Settlement, exchange: PaidExchange, spend: Spend, rule: str) -> Swap:
        amount = spend.amount or 0
        found = await self.approvals.use(record, exchange.caller, amount, rule)
        if isinstance(found, Swap):
            return found
        if isinstance(found, Denial):
            raise self._denied(exchange, found)
        raise self._denied(exchange, _waits(found), found.id)

    def _spend(self, payment: Payment, exchange: PaidExchange) -> Spend:
        readable = payment.method in _READABLE and payment.authorization_value is not None
        payees = (payment.pay_to, payment.authorization_to if readable else "")
        in_force = exchange.generation.policy.in_force(payment.network, route=exchange.route)
        return Spend(
            route=exchange.route,
            host=_host(exchange),
            caller=exchange.caller,
            network=payment.network,
            asset=payment.asset,
            payer=payment.payer,
            payee=tuple(dict.fromkeys(one for one in payees if one)),
            amount=max(payment.amount, payment.authorization_value or 0) if readable else None,
            decimals=decimals_of(payment, in_force),
        )

    def _denied(
        self, exchange: PaidExchange, denial: Denial, approval: str = "", fault: BadPayment | None = None
    ) -> SpendingDenied:
        self._parts.telemetry.spending_denied(denial.rule, denial.limit)
        self._tell(exchange, denial)
        return SpendingDenied(denial.rule, denial.limit, denial.why, approval, fault)

    def _tell(self, exchange: PaidExchange, denial: Denial) -> None:
        """One line for each rule and key in TELL_EVERY_S at most: who is refused may ask again and again."""
        of, now = (denial.rule, denial.limit), asyncio.get_running_loop().time()
        since, untold = self._told.get(of, (-TELL_EVERY_S, 0))
        if now - since < TELL_EVERY_S:
            self._told[of] = (since, untold + 1)
            return
        self._told[of] = (now, 0)
        facts = {"rule": denial.rule, "limit": denial.limit, "route": exchange.route, "why": denial.why}
        log.warning("spending denied", extra={**facts, "caller": exchange.caller, "count": untold + 1})

    # -- what becomes of a payment that counts

    async def give_back(self, held: Held | None) -> None:
        """It is not going to be sent by whoever held it."""
        if held is not None:
            await self._release(Hold(held.key, held.token, 0.0))

    def moved(self, old: Settlement, new: Settlement) -> None:
        """A record has moved: one that says that it never paid counts no longer."""
        proven_unpaid = new.money in UNPAID and old.money not in UNPAID
        settled = _is_settled(new) and not _is_settled(old) and self._parts.policy.spending.rules
        if proven_unpaid or settled:
            self._parts.tasks.spawn(self.look_at(new.key), "spending")

    async def look_at(self, key: str) -> None:
        """Release or settle the hold of a record, if it has one, as the record says."""
        with contextlib.suppress(StoreUnavailable):  # then `settle_up` finds it
            if (hold := await self._parts.store.ledger.standing(key)) is not None:
                await self._look(hold)

    async def settle_up(self) -> bool:
        """Look for holds that nobody released; True where some were, also by somebody else meanwhile."""
        seen, loop = self._released, asyncio.get_running_loop()
        async with self._looking:
            if self._released == seen and loop.time() >= self._look_at:
                ledger = self._parts.store.ledger
                holds = await ledger.unsettled(LOOKED_AT)
                for start in range(0, len(holds), AT_ONCE):
                    await asyncio.gather(*(self._look(hold) for hold in holds[start : start + AT_ONCE]))
                self._look_at = loop.time() + LOOK_EVERY_S
        return self._released != seen

    async def _look(self, hold: Hold) -> bool:
        """The hold was read before its record: whoever sends it anew in between has renewed its token."""
        record = await self._parts.store.get(hold.key)
        if record is None:  # one that is older than what is retained may have had one, and have paid
            age_s = self._parts.clock() - hold.at
            return ABANDONED_S < age_s < self._parts.policy.retention_s and await self._release(hold)
        if record.money in UNPAID and not _paid_otherwise(record):
            return await self._release(hold)
        if _is_settled(record):
            await self._parts.store.ledger.settle(hold.key)
        return False

    async def _release(self, hold: Hold) -> bool:
        released = await self._parts.store.ledger.release(hold.key, hold.token)
        self._released += released
        return released

    # -- the switch, and what is counted

    async def stopped(self) -> Stop | None:
        """Who has stopped all spending by hand."""
        text = await self._parts.store.ledger.paper(STOP)
        return msgspec.json.decode(text, type=Stop) if text else None

    async def stop(self, by: str, reason: str = "") -> Stop:
        """Refuse every new payment from now on, whatever the policy says; durable. Raises CannotDecide, and
        StoreUnavailable where it does not hold."""
        who, why = said_by(by, CannotDecide), said("reason", reason, CannotDecide)
        stop = Stop(who, why, self._parts.clock())
        ledger = self._parts.store.ledger
        if await ledger.swap(Swap(STOP, "", msgspec.json.encode(stop).decode()), FOREVER):
            log.warning("spending stopped", extra={"by": who})
            return stop
        if (standing := await self.stopped()) is None:
            raise StoreUnavailable("the switch is just being used; stop again")
        return standing

    async def resume(self, by: str) -> Stop | None:
        """Take payments again; who had stopped them."""
        who = said_by(by, CannotDecide)
        text = await self._parts.store.ledger.paper(STOP)
        if text and await self._parts.store.ledger.swap(Swap(STOP, text, ""), FOREVER):
            log.warning("spending resumed", extra={"by": who})
        return msgspec.json.decode(text, type=Stop) if text else None

    async def counted(self) -> list[dict[str, Any]]:
        """Every budget of now with what is counted in it."""
        now = self._parts.clock()
        found = []
        for budget in await self._parts.store.ledger.budgets():
            rule, key, whose, network, asset, window = msgspec.json.decode(budget.name, type=tuple[str, ...])
            if budget.ends_at - KEPT_S > now:
                facts = {"rule": rule, "limit": key, "whose": whose, "network": network, "asset": asset}
                found.append({**facts, "window": window, "counted": budget.counted})
        return found


def _line(limit: Limit, now: float) -> Line:
    """The budget's name says the hour or day in UTC, so that it is the same for every replica."""
    span_s = _SPAN_S[limit.span]
    begins = now - now % span_s
    window = datetime.fromtimestamp(begins, UTC).strftime("%Y-%m-%dT%H" if limit.span == HOUR else "%Y-%m-%d")
    name = (limit.rule, limit.key, limit.whose, limit.network, limit.asset, window)
    budget = msgspec.json.encode(name).decode()
    return Line(budget, str(limit.amount), str(limit.most), begins + span_s + KEPT_S)


def _over(limit: Limit, counted: int) -> Denial:
    what = f"{limit.asset} on {limit.network}, atomic" if limit.asset else "payments"
    why = (
        f"{counted} of {limit.most} are spent or held in this {limit.span} (UTC), and this is {limit.amount}"
    )
    return Denial(limit.rule, limit.key, f"{why} ({what})")


def _another(demand: Demand) -> Denial:
    rule, key = next(((one.rule, one.key) for one in demand.limits), (demand.approval, "approve_above"))
    return Denial(rule, key, "another payment with this nonce came before; sign anew with a new one")


def _stopped(stop: Stop) -> Denial:
    why = f"all spending was stopped by {stop.by}" + (f": {stop.reason}" if stop.reason else "")
    return Denial("spending", "stop", why)


def _waits(approval: Approval) -> Denial:
    if approval.state is State.DENIED:
        why = f"{approval.by} has denied it" + (f": {approval.note}" if approval.note else "")
        return Denial(approval.rule, "approval_denied", why)
    why = f"{approval.amount} atomic is above what passes unasked; an operator may approve {approval.id}"
    return Denial(approval.rule, "approve_above", why)


def _is_settled(record: Settlement) -> bool:
    """No proof is expected any more that would release it."""
    if _paid_otherwise(record):
        return True
    if record.watched:
        return record.money in PAID and record.chain_proven
    return record.money not in (Money.IDLE, Money.PENDING)


def _paid_otherwise(record: Settlement) -> bool:
    """The chain shows that its nonce moved money, though not as the payment said: that was spent."""
    return any(one.name == MoneyEvent.CHAIN_UNPAID and one.note == MISMATCH for one in record.events)


def _host(exchange: PaidExchange) -> str:
    return (urlsplit(exchange.url).hostname or "").lower()
