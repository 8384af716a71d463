"""What all facilitators say they support: asked in the background, kept while one is down, merged into one.

A kind whose rail is dead everywhere is left out of the merged answer, so that a seller stops offering
what nobody can settle now; it comes back as soon as its circuit is due for a trial.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from guardian.errors import NotSent, ReplyLost
from guardian.facilitator.client import Facilitator, RawHeaders, Reply
from guardian.facilitator.supported import MAX_ENTRIES, Supported, merge, read_supported

FRESH_S = 60.0
RETRY_S = 5.0
"""A facilitator that gave no good answer is asked again after this, not by every caller."""

STALE_S = 300.0
"""One that could not be reached for longer no longer counts for a kind in the merged answer: longer than
a restart or a rollout takes, so that a seller which reads /supported meanwhile keeps its rails."""

REFRESH_TIMEOUT_S = 3.0
"""While there is an older answer to give, nobody waits longer for a newer one."""

HeadersFor = Callable[[Facilitator, RawHeaders], RawHeaders]
DeadRails = Callable[[], frozenset[tuple[str, str]]]
OnFault = Callable[[str, str], None]


@dataclass(slots=True)
class Known:
    """What was last heard from one facilitator; `reply` is its last good one, `fault` why it is the last."""

    supported: Supported | None = None
    reply: Reply | None = None
    fault: str = ""
    ask_again_at: float = float("-inf")
    wants_credentials: bool = False
    silent_since: float | None = None

    def is_silent(self, now: float) -> bool:
        """It could not be reached for so long that it no longer counts."""
        return self.silent_since is not None and now - self.silent_since > STALE_S


_Answered = tuple[str, Reply, Supported]


@dataclass(frozen=True, slots=True)
class _Told:
    """All that a merged answer depends on."""

    of: tuple[tuple[str, Reply], ...]
    dead: frozenset[tuple[str, str]]
    silent: frozenset[str]


class Catalogue:
    """The /supported of all facilitators, in their order.

    known: by name; dead: the facilitators and networks where settles are refused by the circuit;
    headers_for: what to send, given what the caller sent (nothing when the guardian asks on its own); may
    raise NotSent;
    on_fault: told once, when a facilitator stops answering well. `clock` counts seconds.
    """

    def __init__(
        self,
        facilitators: Sequence[Facilitator],
        dead: DeadRails,
        *,
        clock: Callable[[], float],
        headers_for: HeadersFor,
        on_fault: OnFault,
    ) -> None:
        self.known = {facilitator.name: Known() for facilitator in facilitators}
        self._facilitators = facilitators
        self._dead = dead
        self._clock = clock
        self._headers_for = headers_for
        self._on_fault = on_fault
        self._flight: asyncio.Task[Reply] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._written: tuple[_Told, Reply] | None = None

    async def answer(self, headers: RawHeaders, timeout_s: float) -> Reply:
        """All in one, with whatever is due asked for first; one flight for all callers.

        Without one good answer, now or before: the first facilitator's reply as it is, or its error.
        Raises NotSent or ReplyLost.
        """
        if self._flight is None:
            self._flight = asyncio.create_task(self._ask_due(headers, timeout_s))
            self._flight.add_done_callback(self._landed)
        return await asyncio.shield(self._flight)

    async def start(self) -> None:
        """Ask everyone once, briefly; then keep the answers fresh in the background. Idempotent."""
        await self._refresh()
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._keep_fresh(), name="supported")

    async def stop(self) -> None:
        """End the background's asking; callers that wait get their answer all the same."""
        if (task := self._refreshing) is not None:
            self._refreshing = None
            task.cancel()
            await asyncio.wait([task])

    def abandon(self) -> None:
        """Leave the callers' flight as well: the connections are going to be closed."""
        if self._flight is not None:
            self._flight.cancel()

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask on the guardian's own behalf, two rounds before a caller would have to."""
        soon = self._clock() + 2 * RETRY_S
        due = [one for one in self._facilitators if self._is_due(one.name, soon)]
        asking = (self._ask(one, (), REFRESH_TIMEOUT_S) for one in due)
        heard = await asyncio.gather(*asking, return_exceptions=True)
        for one, fault in zip(due, heard, strict=True):
            # The edge of a task that nobody awaits: what was not foreseen is told, and asked again.
            if isinstance(fault, Exception) and not isinstance(fault, NotSent | ReplyLost):
                self._on_fault(one.name, repr(fault))

    def _landed(self, flight: asyncio.Task[Reply]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # looked at, so that a flight whose callers have all left is not reported

    async def _ask_due(self, headers: RawHeaders, timeout_s: float) -> Reply:
        something = any(known.reply for known in self.known.values())
        limit_s = min(timeout_s, REFRESH_TIMEOUT_S) if something else timeout_s
        due = [one for one in self._facilitators if not something or self._is_due_for_caller(one.name)]
        heard = await asyncio.gather(*(self._ask(one, headers, limit_s) for one in due))
        return self._merged() or _best_of(heard)

    def _is_due(self, name: str, now: float) -> bool:
        return now >= self.known[name].ask_again_at

    def _is_due_for_caller(self, name: str) -> bool:
        """Where the guardian's own credentials are not enough, each caller's may be."""
        return self.known[name].wants_credentials or self._is_due(name, self._clock())

    async def _ask(
        self, facilitator: Facilitator, headers: RawHeaders, limit_s: float
    ) -> Reply | NotSent | ReplyLost:
        known = self.known[facilitator.name]
        try:
            sent = self._headers_for(facilitator, headers)
            reply = await facilitator.get("/supported", sent, timeout_s=limit_s)
        except (NotSent, ReplyLost) as exc:
            self._unanswered(known, facilitator.name, str(exc), is_silent=True)
            return exc
        known.wants_credentials = reply.status in (401, 403)
        if (supported := read_supported(reply.status, reply.body)) is None:
            why = f"status {reply.status} and no list of kinds"
            why += f", or more than {MAX_ENTRIES} entries" if reply.status == 200 else ""
            why += "; look whether its url has the whole path, and no more" if reply.status == 404 else ""
            self._unanswered(known, facilitator.name, why, is_silent=reply.status >= 500)
            return reply
        known.supported, known.reply = supported, reply
        known.fault, known.silent_since = "", None
        known.ask_again_at = self._clock() + FRESH_S
        return reply

    def _unanswered(self, known: Known, name: str, why: str, *, is_silent: bool) -> None:
        now = self._clock()
        # Asking the same way again gains nothing where other credentials are wanted.
        known.ask_again_at = now + (FRESH_S if known.wants_credentials else RETRY_S)
        if not is_silent:
            known.silent_since = None
        elif known.silent_since is None:
            known.silent_since = now
        if not known.fault:
            self._on_fault(name, why)
        known.fault = why

    def _merged(self) -> Reply | None:
        good = [(name, known.reply, known.supported) for name, known in self.known.items()]
        answered = [(name, reply, all_) for name, reply, all_ in good if reply and all_]
        if not answered:
            return None
        dead, now = self._dead(), self._clock()
        silent = frozenset(name for name, known in self.known.items() if known.is_silent(now))
        told = _Told(tuple((name, reply) for name, reply, _ in answered), dead, silent)
        if self._written is None or self._written[0] != told:
            self._written = (told, _write(answered, dead, silent))
        return self._written[1]


def _write(answered: Sequence[_Answered], dead: frozenset[tuple[str, str]], silent: frozenset[str]) -> Reply:
    """One answer for all; of thousands of kinds it takes a hundredth of a second and more."""
    _, first, _ = answered[0]

    def is_alive(name: str, network: str) -> bool:
        return name not in silent and (name, network) not in dead

    alive = [all_.where(partial(is_alive, name)) for name, _, all_ in answered]
    if not any(one.document["kinds"] for one in alive):
        alive = [all_ for _, _, all_ in answered]  # all rails are dead: that is no news for a seller
    body = merge(alive)
    own = first.headers if body is first.body else [(b"content-type", b"application/json")]
    return Reply(200, own, body, first.elapsed_s)


def _best_of(heard: Sequence[Reply | NotSent | ReplyLost]) -> Reply:
    """No one gave a good answer: a reply says more than an error."""
    for one in heard:
        if isinstance(one, Reply):
            return one
    for one in heard:
        if not isinstance(one, Reply):
            raise one
    raise NotSent("there is no facilitator")
