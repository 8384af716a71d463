"""The way of a verify: from the record where the record knows better, else the facilitator's word.

A read: it may be repeated and failed over freely within its budget. The answer is always a complete
body under HTTP 200, because the v1 SDK turns anything else into a bare 500.
"""

import asyncio
import functools
import time
from contextlib import suppress

from guardian.errors import ChainUnavailable
from guardian.facilitator.client import Reply
from guardian.facilitator.retry import try_again
from guardian.flow import answers
from guardian.flow.ask import Question, Tried, ask_each
from guardian.flow.parts import Call, Parts
from guardian.flow.preflight import Preflight
from guardian.flow.purchase import Purchases
from guardian.flow.signatures import VERIFY_TIMEOUT_S, Signatures
from guardian.settlement.classify import Operation, Outcome, Verdict
from guardian.settlement.purchase import pays_for
from guardian.settlement.record import Settlement
from guardian.settlement.states import IN_DOUBT, PAID, Answer
from guardian.wire.payment import Payment, read_payment
from guardian.wire.reply import read_verify_reply, write_verify_invalid, write_verify_valid

VERIFY_BUDGET_S = 20.0
"""All tries of one /verify together; the shortest caller of the field waits 30 s, v1 only 5."""

SPENT_BY_US = ("nonce", "balance", "insufficient", "simulation", "used", "funds")
"""Parts of reasons that an earlier payment of the same payer causes."""


class VerifyFlow:
    """Answers /verify."""

    def __init__(
        self, parts: Parts, signatures: Signatures, purchases: Purchases, preflight: Preflight
    ) -> None:
        self._parts = parts
        self._preflight = preflight
        self._signatures = signatures
        self._purchases = purchases

    async def verify(self, call: Call) -> None:
        """Answer once. Raises BadPayment before anything is sent."""
        payment = read_payment(call.body)
        self._signatures.seen(payment)
        record = await self._parts.store.get(payment.key)
        if record and (known := await self._from_record(record, payment)):
            await call.answer(200, (), known)
            return
        looked = await self._preflight.look(payment, call)
        if looked.refusal:
            await call.answer(200, (), answers.invalid_by_preflight(payment, looked.refusal))
            return
        tried = await self._ask(payment, call, looked.unfit)
        if tried.verdict.outcome is Outcome.SUCCESS and tried.reply:
            self._signatures.vouch(payment)
            await call.answer(200, tried.reply.headers, _valid_body(tried.reply, payment))
        elif await self._earlier_payment_stands(record, payment, tried.verdict, call):
            await call.answer(200, (), write_verify_valid(payment.payer))
        else:
            await call.answer(200, tried.headers, _invalid_body(tried, payment))

    async def _from_record(self, record: Settlement, payment: Payment) -> bytes | None:
        """What the record says before any facilitator is asked (law 4)."""
        if record.answer is Answer.ACCEPTED or record.closed_by:
            return write_verify_invalid(
                reason=answers.DUPLICATE, message=answers.over(record), payer=record.payer
            )
        counts = record.money in PAID or record.money in IN_DOUBT
        if counts and not pays_for(record, payment):
            return write_verify_invalid(reason=answers.DUPLICATE, message=answers.TAKEN, payer=record.payer)
        with suppress(ChainUnavailable):  # the facilitator may know
            if counts and await self._signatures.proven(record, payment):
                return write_verify_valid(payment.payer)
        return None

    async def _earlier_payment_stands(
        self, record: Settlement | None, payment: Payment, verdict: Verdict, call: Call
    ) -> bool:
        """Refused only because the payer's earlier payment for this purchase has moved the money."""
        if not any(part in verdict.reason for part in SPENT_BY_US):
            return False
        if record and record.key == payment.key and record.money in PAID:
            return False
        before = await self._purchases.before_payment(payment, call.generation)
        return bool(before) and await self._signatures.recovered(payment)

    async def _ask(self, payment: Payment, call: Call, unfit: frozenset[str]) -> Tried:
        return await try_again(
            functools.partial(self._round, payment, call, unfit),
            again=lambda tried: tried.pause_s(self._parts.clock()),
            attempts=call.generation.policy.in_force(payment.network, call.only).retry.attempts,
            deadline=time.monotonic() + VERIFY_BUDGET_S,
            clock=time.monotonic,
            sleep=asyncio.sleep,
        )

    async def _round(self, payment: Payment, call: Call, unfit: frozenset[str], number: int) -> Tried:
        question = Question.of(
            Operation.VERIFY,
            payment,
            call,
            wait_s=VERIFY_TIMEOUT_S,
            timeout_s=VERIFY_TIMEOUT_S,
            unfit=unfit,
        )
        return await ask_each(self._parts, question)


def _valid_body(reply: Reply, payment: Payment) -> bytes:
    """The facilitator's own bytes; v1 SDKs need a payer in them."""
    return reply.body if b'"payer"' in reply.body else write_verify_valid(payment.payer)


def _invalid_body(tried: Tried, payment: Payment) -> bytes:
    """The facilitator's own bytes where they are complete, else the same in full."""
    verdict, reply = tried.verdict, tried.reply
    if reply and reply.status == 200 and b'"payer"' in reply.body:
        said = read_verify_reply(reply.status, reply.body)
        if said.well_formed and said.reason and not verdict.cure:
            return reply.body
    return write_verify_invalid(
        reason=verdict.reason or "unexpected_verify_error",
        message=f"{verdict.message} {verdict.cure}".strip(),
        payer=payment.payer,
    )
