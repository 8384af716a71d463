"""Which facilitators may serve a payment, and what all of them together support.

The order is the policy's. A facilitator drops out while its circuit admits nothing, or when its own
/supported leaves the payment's kind out; one whose /supported was never read stays in, and where no
one claims the kind the first gets it: unknown networks and schemes still pass (law 7).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guardian import errors
from guardian.facilitator.circuit import CircuitKey, Circuits
from guardian.facilitator.client import Facilitator, RawHeaders, Reply
from guardian.facilitator.supported import Supported, merge, read_supported

FRESH_S = 60.0
RETRY_S = 5.0
"""A facilitator that gave no good answer is asked again after this, not by every caller."""

REFRESH_TIMEOUT_S = 3.0
"""While there is an older answer to give, nobody waits longer for a newer one."""


@dataclass(slots=True)
class _Known:
    """What was last heard from one facilitator; `reply` is its last good one."""

    supported: Supported | None = None
    reply: Reply | None = None
    ask_again_at: float = float("-inf")


class Facilitators:
    """All facilitators of a policy, at least one; `clock` counts seconds."""

    def __init__(
        self, facilitators: Sequence[Facilitator], circuits: Circuits, *, clock: Callable[[], float]
    ) -> None:
        self.all = tuple(facilitators)
        self._circuits = circuits
        self._clock = clock
        self._known = {facilitator.name: _Known() for facilitator in self.all}
        self._flight: asyncio.Task[Reply] | None = None

    def named(self, name: str) -> Facilitator | None:
        return next((facilitator for facilitator in self.all if facilitator.name == name), None)

    def candidates(
        self, network: str, scheme: str, operation: str, *, x402_version: int | None = None
    ) -> list[Facilitator]:
        """Those that may be asked now, in order; empty when every fitting circuit is open.

        network: CAIP-2 where known, v1 names in /supported are translated. x402_version: None for any.
        """
        fitting = [one for one in self.all if self._may_serve(one, network, scheme, x402_version)]
        return [
            one
            for one in fitting or self.all[:1]
            if self._circuits.may_admit(CircuitKey(one.name, network, operation))
        ]

    async def supported(self, headers: RawHeaders = (), *, timeout_s: float = 10.0) -> Reply:
        """Every facilitator's /supported in one; asked at most once a minute, one flight for all callers.

        Without one good answer, now or before: the first facilitator's reply as it is, or its error.
        Raises NotSent or ReplyLost.
        """
        if self._flight is None:
            self._flight = asyncio.create_task(self._ask_all(headers, timeout_s))
            self._flight.add_done_callback(self._landed)
        return await asyncio.shield(self._flight)

    async def close(self) -> None:
        """Close every facilitator's connections."""
        if self._flight is not None:
            self._flight.cancel()
        await asyncio.gather(*(facilitator.close() for facilitator in self.all))

    def _landed(self, flight: asyncio.Task[Reply]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # looked at, so that a flight whose callers have all left is not reported

    def _may_serve(
        self, facilitator: Facilitator, network: str, scheme: str, x402_version: int | None
    ) -> bool:
        supported = self._known[facilitator.name].supported
        return supported is None or supported.serves(network, scheme, x402_version)

    async def _ask_all(self, headers: RawHeaders, timeout_s: float) -> Reply:
        heard = await asyncio.gather(*(self._ask(one, headers, timeout_s) for one in self.all))
        known = [self._known[one.name] for one in self.all]
        good = [(one.reply, one.supported) for one in known if one.reply and one.supported]
        if good:
            first, _ = good[0]
            own = first.headers if len(good) == 1 else [(b"content-type", b"application/json")]
            return Reply(200, own, merge([supported for _, supported in good]), first.elapsed_s)
        return _best_of(heard)

    async def _ask(
        self, facilitator: Facilitator, headers: RawHeaders, timeout_s: float
    ) -> Reply | errors.GuardianError | None:
        """Ask one facilitator if its answer is due; None when nothing new was asked for."""
        known = self._known[facilitator.name]
        if known.reply is not None and self._clock() < known.ask_again_at:
            return None
        limit_s = timeout_s if known.reply is None else min(timeout_s, REFRESH_TIMEOUT_S)
        try:
            reply = await facilitator.get("/supported", headers, timeout_s=limit_s)
        except (errors.NotSent, errors.ReplyLost) as exc:
            known.ask_again_at = self._clock() + RETRY_S
            return exc
        if (supported := read_supported(reply.status, reply.body)) is None:
            known.ask_again_at = self._clock() + RETRY_S
            return reply
        known.supported, known.reply = supported, reply
        known.ask_again_at = self._clock() + FRESH_S
        return reply


def _best_of(heard: Sequence[Reply | errors.GuardianError | None]) -> Reply:
    """No one gave a good answer: a reply says more than an error."""
    for one in heard:
        if isinstance(one, Reply):
            return one
    for one in heard:
        if isinstance(one, errors.GuardianError):
            raise one
    raise errors.NotSent("there is no facilitator")
