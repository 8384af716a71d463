"""One attempt at one facilitator, classified: the only place where a reply becomes a verdict."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guardian.errors import NotSent, ReplyLost
from guardian.facilitator.circuit import CircuitKey, Ticket
from guardian.facilitator.client import Facilitator, Reply
from guardian.facilitator.retry import retry_after_s
from guardian.flow.parts import Headers, Parts
from guardian.settlement.classify import (
    Health,
    Operation,
    Outcome,
    Verdict,
    classify_not_sent,
    classify_reply,
    classify_reply_lost,
)
from guardian.telemetry import SpanName
from guardian.wire.names import Network


@dataclass(frozen=True, slots=True)
class Tried:
    """What an attempt, or a round of attempts, gave."""

    verdict: Verdict
    reply: Reply | None = None
    facilitator: str = ""

    @property
    def headers(self) -> Headers:
        """The reply's headers; none where there was no reply."""
        return self.reply.headers if self.reply else ()

    @property
    def may_go_elsewhere(self) -> bool:
        """Provably not executed: another facilitator may be asked at once (law 6)."""
        return self.verdict.outcome is Outcome.TRANSIENT

    def pause_s(self, now: float) -> float | None:
        """How long the facilitator wants to be left alone; None: this is not to be repeated."""
        if self.verdict.outcome is not Outcome.TRANSIENT:
            return None
        return retry_after_s(self.headers, now) or 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a facilitator. headers and body as the caller sent them."""

    operation: Operation
    network: Network
    scheme: str
    x402_version: int
    headers: Headers
    body: bytes
    timeout_s: float
    only: str = ""


async def ask_each(parts: Parts, question: Question, tainted: Callable[[], bool] = lambda: False) -> Tried:
    """Ask the facilitators in order until one's reply is more than «not executed»."""
    tried = Tried(classify_not_sent(question.operation, "no facilitator's circuit admits this now"))
    for facilitator in _choice(parts, question):
        ticket = parts.circuits.admit(CircuitKey(facilitator.name, question.network, question.operation))
        if ticket is None:
            continue
        about = {
            "facilitator": facilitator.name,
            "network": question.network,
            "operation": question.operation,
        }
        with parts.telemetry.span(SpanName.ATTEMPT, **about):
            tried = await _ask(parts, facilitator, ticket, question, tainted)
        if not tried.may_go_elsewhere:
            break
    return tried


def _choice(parts: Parts, question: Question) -> Sequence[Facilitator]:
    """The one that the caller named, whatever it claims to support, or all that may serve this."""
    if question.only:
        named = parts.facilitators.named(question.only)
        return (named,) if named else ()
    return parts.facilitators.candidates(
        question.network, question.scheme, question.operation, x402_version=question.x402_version
    )


async def _ask(
    parts: Parts, facilitator: Facilitator, ticket: Ticket, question: Question, tainted: Callable[[], bool]
) -> Tried:
    operation, reply, begun = question.operation, None, time.monotonic()
    health = Health.NEUTRAL  # what a cancellation leaves: neither for nor against (law 9)
    try:
        reply = await facilitator.post(
            f"/{operation}", question.headers, question.body, timeout_s=question.timeout_s
        )
        verdict = classify_reply(operation, reply.status, reply.body, tainted=tainted())
        health = verdict.health
    except NotSent as fault:
        verdict = classify_not_sent(operation, str(fault))
        health = verdict.health
    except ReplyLost as fault:
        verdict = classify_reply_lost(operation, str(fault))
        health = verdict.health
    finally:
        parts.circuits.record(ticket, health)
    seconds = time.monotonic() - begun
    parts.telemetry.attempt(facilitator.name, question.network, operation, verdict.outcome, seconds)
    parts.telemetry.classified(operation, verdict.outcome, verdict.rule)
    return Tried(verdict, reply, facilitator.name)
