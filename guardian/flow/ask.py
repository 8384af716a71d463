"""One attempt at one facilitator, judged: the only place where a reply becomes a verdict."""

import time
from collections.abc import Callable, Sequence
from typing import Self

import msgspec

from guardian.errors import NotSent, ReplyLost
from guardian.facilitator.circuit import CircuitKey, Ticket
from guardian.facilitator.client import Facilitator, Reply
from guardian.facilitator.retry import retry_after_s
from guardian.flow.heard import Heard as Answered
from guardian.flow.parts import Call, Generation, Headers, Parts, log
from guardian.policy.judge import Judgement, judge
from guardian.policy.rules import Alert, Heard, History, Transport
from guardian.settlement.classify import Health, Operation, Outcome, Verdict, classify_not_sent
from guardian.telemetry import SpanName
from guardian.wire.names import Network
from guardian.wire.payment import Payment

CREDENTIALS = frozenset(
    (
        b"authorization",
        b"cookie",
        b"api-key",
        b"x-api-key",
        b"x-secret-key",
        b"x-client-id",
        b"x-wallet-auth",
        b"correlation-context",
    )
)
"""Headers by which callers show facilitators who they are (the SDKs', CDP's and thirdweb's)."""

NOBODY_NOW = {
    operation: classify_not_sent(operation, "no facilitator's circuit admits this now")
    for operation in Operation
}
"""What is left where nobody may be asked."""


class Tried(msgspec.Struct, frozen=True):
    """What an attempt, or a round of attempts, gave. sent: whether anything has left so far; heard: what
    each attempt of the round was answered."""

    verdict: Verdict
    reply: Reply | None = None
    facilitator: str = ""
    sent: bool = False
    heard: tuple[Answered, ...] = ()

    @property
    def headers(self) -> Headers:
        """The reply's headers; none where there was no reply."""
        return self.reply.headers if self.reply else ()

    def pause_s(self, now: float) -> float | None:
        """How long the facilitator wants to be left alone; None: this is not to be repeated."""
        if not self.verdict.retry:
            return None
        return retry_after_s(self.headers, now) or 0.0


class Question(msgspec.Struct, frozen=True):
    """What is asked of a facilitator. headers and body as the caller sent them.

    key: of the payment. timeout_s: None for the settlement timeout in force at the facilitator that is
    asked; wait_s: for its turn. only: the one facilitator that it is for, or empty; unfit: those that it
    is not for. repeated: the guardian sends this again on its own account. sent: something left before.
    """

    generation: Generation
    operation: Operation
    key: str
    network: Network
    scheme: str
    x402_version: int
    headers: Headers
    body: bytes
    wait_s: float
    timeout_s: float | None = None
    only: str = ""
    unfit: frozenset[str] = frozenset()
    repeated: bool = False
    sent: bool = False

    @classmethod
    def of(
        cls,
        operation: Operation,
        payment: Payment,
        call: Call,
        *,
        wait_s: float,
        timeout_s: float | None = None,
        unfit: frozenset[str] = frozenset(),
    ) -> Self:
        """What a caller asks, as it asks it."""
        return cls(
            generation=call.generation,
            operation=operation,
            key=payment.key,
            network=payment.network,
            scheme=payment.scheme,
            x402_version=payment.x402_version,
            headers=call.headers,
            body=call.body,
            wait_s=wait_s,
            timeout_s=timeout_s,
            only=call.only,
            unfit=unfit,
        )


async def ask_each(parts: Parts, question: Question, tainted: Callable[[], bool] = lambda: False) -> Tried:
    """Ask the facilitators in order until one's reply is more than «not executed»."""
    tried = Tried(NOBODY_NOW[question.operation], sent=question.sent)
    choice = _choice(question)
    for number, facilitator in enumerate(choice, 1):
        if number > 1 and not _may_go_on(question, tried, facilitator):
            continue
        wait_s = _wait_s(question, facilitator, choice[number:])
        tried = await _in_turn(parts, facilitator, question, tried, tainted, wait_s)
    return tried


def _wait_s(question: Question, facilitator: Facilitator, behind: Sequence[Facilitator]) -> float:
    """A turn is waited for where nobody else may be asked instead."""
    others = question.generation.facilitators.failover(facilitator.name) if behind else ()
    return 0.0 if any(one.name in others for one in behind) else question.wait_s


def _choice(question: Question) -> Sequence[Facilitator]:
    """The one that the caller named, whatever it claims to support, or all that may serve this."""
    facilitators = question.generation.facilitators
    if question.only:
        named = facilitators.named(question.only)
        return (named,) if named else ()
    found = facilitators.candidates(
        question.network,
        question.scheme,
        question.operation,
        x402_version=question.x402_version,
        key=question.key,
    )
    return [one for one in found if one.name not in question.unfit]


def _may_go_on(question: Question, tried: Tried, to: Facilitator) -> bool:
    """Provably not executed, and the policy sends it to that one (law 6)."""
    if not tried.facilitator:
        return True
    return tried.verdict.failover and to.name in question.generation.facilitators.failover(tried.facilitator)


async def _in_turn(
    parts: Parts,
    facilitator: Facilitator,
    question: Question,
    before: Tried,
    tainted: Callable[[], bool],
    wait_s: float,
) -> Tried:
    """One attempt, once it is its turn; `before` where the circuit is shut."""
    about = {
        "facilitator": facilitator.name,
        "network": question.network,
        "operation": question.operation,
    }
    turns = question.generation.facilitators
    try:
        async with turns.turn(facilitator, question.network, question.operation, time.monotonic() + wait_s):
            ticket = parts.circuits.admit(CircuitKey(facilitator.name, question.network, question.operation))
            if ticket is None:
                return before
            with parts.telemetry.span(SpanName.ATTEMPT, **about):
                return await _ask(parts, facilitator, ticket, question, before, tainted)
    except NotSent as fault:  # no turn came: nothing is said about the facilitator's health
        heard = Answered(parts.clock(), facilitator.name, 0, f"not sent: {fault}")
        return Tried(
            classify_not_sent(question.operation, str(fault)),
            None,
            facilitator.name,
            before.sent,
            (*before.heard, heard),
        )


async def _ask(
    parts: Parts,
    facilitator: Facilitator,
    ticket: Ticket,
    question: Question,
    before: Tried,
    tainted: Callable[[], bool],
) -> Tried:
    begun, health = time.monotonic(), Health.NEUTRAL  # what a cancellation leaves (law 9)
    sent, operation = before.sent, question.operation
    try:
        reply, transport, detail = await _exchange(facilitator, question)
        status, body = (reply.status, reply.body) if reply else (0, b"")
        heard = Heard(
            operation,
            facilitator=facilitator.name,
            network=question.network,
            status=status,
            body=body,
            transport=transport,
            history=History.IN_DOUBT if tainted() else History.REPEATED if sent else History.FIRST,
            detail=detail,
        )
        judgement = judge(question.generation.policy, heard)
        health = (verdict := judgement.verdict).health
    finally:
        parts.circuits.record(ticket, health)
    seconds = time.monotonic() - begun
    parts.telemetry.attempt(facilitator.name, question.network, operation, verdict.outcome, seconds)
    parts.telemetry.classified(operation, verdict.outcome, verdict.rule)
    if judgement.shadows or verdict.alert is not Alert.OFF:
        _tell(parts, facilitator, question, judgement)
    note = f"{verdict.outcome}: {verdict.rule}" if reply else f"{transport}: {detail}"
    answered = Answered(parts.clock(), facilitator.name, status, note, body)
    sent = sent or transport is not Transport.NOT_SENT
    return Tried(verdict, reply, facilitator.name, sent, (*before.heard, answered))


async def _exchange(facilitator: Facilitator, question: Question) -> tuple[Reply | None, Transport, str]:
    """The reply, or how far the attempt got and why."""
    path, generation = f"/{question.operation}", question.generation
    timeout_s = question.timeout_s
    if timeout_s is None:
        timeout_s = generation.policy.in_force(question.network, facilitator.name).settlement_timeout_s
    try:
        headers = generation.headers_for(
            facilitator, "POST", path, _callers_headers(facilitator, question), repeated=question.repeated
        )
        reply = await facilitator.post(path, headers, question.body, timeout_s=timeout_s)
        return reply, Transport.REPLY, ""
    except NotSent as fault:
        return None, Transport.NOT_SENT, str(fault)
    except ReplyLost as fault:
        return None, Transport.TIMEOUT if fault.timed_out else Transport.LOST, str(fault)


def _callers_headers(facilitator: Facilitator, question: Question) -> Headers:
    if question.only:
        return question.headers
    return meant_for(facilitator, question.generation, question.headers)


def meant_for(facilitator: Facilitator, generation: Generation, headers: Headers) -> Headers:
    """A caller's headers, with its credentials for the first facilitator alone, which it believes to
    speak with: another one must not learn them."""
    if not headers or facilitator is generation.facilitators.all[0]:
        return headers
    return [(name, value) for name, value in headers if name.lower() not in CREDENTIALS]


def _tell(parts: Parts, facilitator: Facilitator, question: Question, judgement: Judgement) -> None:
    """Rules in shadow, and replies that a rule wants a person to see."""
    verdict = judgement.verdict
    about: dict[str, object] = {
        "facilitator": facilitator.name,
        "network": question.network,
        "operation": str(question.operation),
        "class": str(verdict.outcome),
        "reason": verdict.reason,
    }
    for shadow in judgement.shadows:
        parts.telemetry.shadow(shadow.section, shadow.rule, shadow.would)
        log.info("a rule in shadow would apply", extra=about | {"rule": shadow.rule, "would": shadow.would})
    if verdict.alert is not Alert.OFF:
        parts.telemetry.alert(facilitator.name, verdict.rule)
        tell = log.error if verdict.alert is Alert.PAGE else log.warning
        tell(
            "a reply that somebody should see", extra=about | {"rule": verdict.rule, "text": verdict.message}
        )


def is_definitive(verdict: Verdict) -> bool:
    """Provably not executed, and nothing asks for the chain's word all the same."""
    return verdict.outcome in (Outcome.TRANSIENT, Outcome.PERMANENT) and not verdict.watch
