"""One authorization on its way to the facilitators, and what their replies do to its record.

Sends under law 6 only: again when the attempt provably was not executed, or after the chain
showed the nonce unused. Runs in tracked tasks that no caller's departure ends (law 9).
"""

import asyncio
import functools
import time

from guardian.facilitator.retry import try_again
from guardian.flow.ask import Question, Tried, ask_each, is_definitive
from guardian.flow.live import Live, until_recorded
from guardian.flow.parts import Generation, Parts
from guardian.flow.watch import MARGIN_S, Watch
from guardian.policy.layers import InForce
from guardian.settlement.classify import Operation, Outcome, Verdict, classify_not_sent
from guardian.settlement.record import Settlement
from guardian.settlement.states import MoneyEvent
from guardian.wire.fields import is_address
from guardian.wire.identity import is_evm
from guardian.wire.names import TxHash
from guardian.wire.networks import network_of
from guardian.wire.reply import read_settle_reply
from guardian.wire.stripped import stripped


class Sender:
    """Sends settles and concludes from the replies."""

    def __init__(self, parts: Parts, watch: Watch) -> None:
        self._parts = parts
        self._watch = watch

    def start(self, live: Live) -> None:
        """Send in a task of its own, and watch from the moment a confirmation is overdue."""
        live.sending += 1
        self._parts.tasks.spawn(self._send(live, live.generation or self._parts.generation), "settle")

    async def _send(self, live: Live, generation: Generation) -> None:
        in_force = generation.policy.in_force(live.record.network, live.only)
        timer = asyncio.get_running_loop().call_later(in_force.confirmation_time_s, self._watch.begin, live)
        try:
            with generation:
                tried = await try_again(
                    functools.partial(self._round, live, generation, in_force),
                    again=functools.partial(self._pause_s, live, in_force),
                    attempts=in_force.retry.attempts,
                    deadline=time.monotonic() + in_force.settle.hold_s,
                    clock=time.monotonic,
                    sleep=asyncio.sleep,
                )
            await until_recorded(functools.partial(self._conclude, live, tried))
        finally:
            timer.cancel()
            live.sending -= 1
            live.wake()

    def _pause_s(self, live: Live, in_force: InForce, tried: Tried) -> float | None:
        """Only what was provably not executed goes again, and only while nothing else is known."""
        if live.record.tainted or live.final:
            return None
        if live.record.valid_before and self._parts.clock() + MARGIN_S > live.record.valid_before:
            return None
        pause_s = tried.pause_s(self._parts.clock())
        if pause_s is None:
            return None
        # Whatever else failed: by the next attempt the facilitator's node has seen the payer's state.
        return max(pause_s, in_force.post_sign_delay_s)

    async def _round(self, live: Live, generation: Generation, in_force: InForce, number: int) -> Tried:
        record = live.record
        if live.final:  # the chain has spoken since this round was decided on
            return Tried(classify_not_sent(Operation.SETTLE, "the outcome is known already"))
        question = Question(
            generation=generation,
            operation=Operation.SETTLE,
            key=record.key,
            network=record.network,
            scheme=record.scheme,
            x402_version=record.x402_version,
            headers=live.headers,
            body=record.body,
            wait_s=in_force.settle.hold_s,
            only=live.only,
            unfit=live.unfit,
            repeated=live.sent,
            sent=live.sent,
        )
        tried = await ask_each(self._parts, question, lambda: live.record.tainted)
        live.sent = tried.sent
        live.heard += tried.heard
        return tried

    async def _conclude(self, live: Live, tried: Tried) -> None:
        verdict = tried.verdict
        facts: dict[str, object] = {
            "facilitator": tried.facilitator,
            "reason": verdict.reason,
            "message": f"{verdict.message} {verdict.cure}".strip(),
        }
        match verdict.outcome:
            case Outcome.SUCCESS if _is_of_another(live.record, tried):
                await self._in_doubt(live, verdict, {**facts, "message": "the success names another payment"})
            case Outcome.SUCCESS:
                await self._reported(live, tried)
            case Outcome.PERMANENT if is_definitive(verdict) and not live.record.tainted:
                await live.money(MoneyEvent.REFUSED, verdict.rule, **facts)
            case Outcome.TRANSIENT if is_definitive(verdict) and not live.record.tainted:
                await live.money(MoneyEvent.NOT_SENT, verdict.rule, **facts, reopens=True)
            case _:
                await self._in_doubt(live, verdict, facts)

    async def _in_doubt(self, live: Live, verdict: Verdict, facts: dict[str, object]) -> None:
        # Error dumps print the call's arguments: a 32-byte hex may be the nonce, not a hash.
        if verdict.transaction and verdict.transaction != live.record.nonce:
            facts["hint"] = TxHash(verdict.transaction)
        if not await live.money(MoneyEvent.DOUBT, verdict.rule, tainted=True, **facts):
            await live.fact("replied", verdict.rule, **facts)
        self._watch.begin(live)

    async def _reported(self, live: Live, tried: Tried) -> None:
        """A success is kept; after a doubt on a watched network it is only a hint (law 3)."""
        verdict, record = tried.verdict, live.record
        hash_ = TxHash(verdict.transaction) if verdict.transaction else None
        if record.tainted and record.watched:
            await live.fact("reported_paid", tried.facilitator, hint=hash_ or record.hint)
        else:
            live.reply_body = tried.reply.body if tried.reply else b""
            live.reply_headers = tried.headers
            report: dict[str, object] = {
                "transaction": hash_,
                "hint": hash_,
                "vouched": True,
                "facilitator": tried.facilitator,
            }
            if not live.kept(**report):  # never sent again: no reason to keep the signature
                await live.money(MoneyEvent.REPORTED_PAID, **report, body=stripped(live.record.body))
        self._watch.begin(live)


def _is_of_another(record: Settlement, tried: Tried) -> bool:
    """A success for another payer or another chain is no word about this payment; where the chain can be
    asked, it is (law 8). Names that are no address or chain id say nothing."""
    if not record.watched or tried.reply is None:
        return False
    said = read_settle_reply(tried.reply.status, tried.reply.body)
    if is_address(said.payer) and said.payer.lower() != record.payer:
        return True
    network = network_of(said.network)
    return network is not None and is_evm(network) and network != record.network
