"""One webhook: its events are sent in the order of each payment, until taken or laid aside.

At least once: an event leaves the store after its receiver has taken it, so a crash in between sends it
again, with the same id. Several replicas agree by a lease on who sends. No payment ever waits for this.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from guardian.errors import NotSent, ReplyLost, StoreUnavailable
from guardian.facilitator.auth import Secret
from guardian.facilitator.client import Facilitator
from guardian.facilitator.retry import pause_s, retry_after_s
from guardian.flow.outbox import MAX_WAITING
from guardian.flow.parts import Parts, log
from guardian.flow.webhook_signature import signed_headers
from guardian.policy.webhooks import WebhookPolicy
from guardian.settlement.notice import Kind, Notice

READ: Final = 500
"""Events of one look, and more where these have to wait; some hundred kB."""

AT_ONCE: Final = 8
"""Requests under way to one receiver."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
MAX_DEAD: Final = 10_000
"""Events laid aside that are kept; beyond them the oldest leave."""

MAX_REPLY_BYTES: Final = 64 * 1024
MAX_WHY_CHARS: Final = 300

ORPHAN_STANDS_S: Final = 15.0
"""A payment is told as an orphan once it has been one for so long: most callers come back before."""

LOOK_S: Final = 5.0
"""How often the store is looked at without being told to."""

GATHER_S: Final = 0.2
"""Between two looks while something is being sent."""

LEASE_S: Final = 10.0
RENEW_S: Final = 3.0

_JSON = (b"content-type", b"application/json")
_AGENT = (b"user-agent", b"payment-guardian")
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one attempt. why: "" where it was taken; wait_s: as the receiver wishes; gone: it wants no
    more of them."""

    why: str = ""
    wait_s: float = 0.0
    gone: bool = False


class Webhook:
    """Sends the events of one webhook, in a task of its own."""

    def __init__(
        self,
        parts: Parts,
        policy: WebhookPolicy,
        secret: Secret[tuple[bytes, ...]],
        counted: Callable[[str, int, int], None],
    ) -> None:
        """counted: told the name, how many events wait, and how many were laid aside."""
        self.policy = policy
        self.leads = False
        self._parts = parts
        self._secret = secret
        self._counted = counted
        self._client = Facilitator(policy.name, policy.url, max_reply_bytes=MAX_REPLY_BYTES)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._more: set[str] = set()

    def start(self) -> None:
        """Begin to send; again changes nothing."""
        if self._task is not None:
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"webhook {self.policy.name}")

    async def stop(self) -> None:
        """Stop at once: what is under way is sent again by whoever comes next. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self.leads and self._parts.store.shared:
                with contextlib.suppress(StoreUnavailable):
                    await self._parts.store.resign(self._lease, self._parts.replica)
        await self._client.close()

    def wake(self) -> None:
        """There is something new."""
        self._woken.set()

    @property
    def _lease(self) -> str:
        return f"webhook/{self.policy.name}"

    async def _run(self) -> None:
        while True:
            try:
                await self._send_while_leading()
            except StoreUnavailable as fault:
                log.warning("webhook events wait for the store", extra=self._about() | {"why": str(fault)})
            except Exception:  # the edge of the task: whatever it was, the events are still there
                log.exception("webhook events could not be sent", extra=self._about())
            await asyncio.sleep(LOOK_S)

    async def _send_while_leading(self) -> None:
        """For as long as no other replica does."""
        if not self._parts.store.shared:
            return await self._send_all()
        self.leads = await self._leased()
        if not self.leads:
            return await self._count()
        sending = asyncio.get_running_loop().create_task(self._send_all())
        try:
            while not (await asyncio.wait((sending,), timeout=RENEW_S))[0]:
                if not await self._leased():
                    return
            await sending
        finally:
            self.leads = False
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _leased(self) -> bool:
        return await self._parts.store.lease(self._lease, self._parts.replica, LEASE_S) is not None

    async def _send_all(self) -> None:
        """What is due, and what comes: a payment whose events are under way keeps no other one waiting."""
        try:
            while True:
                self._woken.clear()
                wait_s = await self._begin_due()
                await self._count()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                if self._under_way:
                    await asyncio.sleep(GATHER_S)
        finally:
            tasks, self._under_way = list(self._under_way.values()), {}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_due(self) -> float:
        """Begin to send what is due and not under way; how long until more may be. Where all that was read
        has to wait, more is read: what one payment's events wait for is nothing to the others."""
        limit = READ
        while True:
            wait_s, read = await self._begin_due_of(limit)
            if read < limit or limit >= MAX_WAITING or len(self._under_way) >= AT_ONCE:
                return wait_s
            limit = min(4 * limit, MAX_WAITING)

    async def _begin_due_of(self, limit: int) -> tuple[float, int]:
        """The same of the first ones, and how many they were."""
        chains: dict[str, list[Notice]] = {}
        busy = set(self._under_way)  # what is read of these may be gone by the time that it is here
        notices = await self._parts.store.notices.waiting(self.policy.name, limit)
        for notice in notices:
            chains.setdefault(notice.subject, []).append(notice)
        now, wait_s = self._parts.clock(), LOOK_S
        for subject, chain in chains.items():
            if subject in self._under_way:
                self._more.add(subject)
            elif subject in busy:
                self._woken.set()
            elif (due := await self._due(chain[0])) is not None and due > now:
                wait_s = min(wait_s, due - now)
            else:
                task = asyncio.get_running_loop().create_task(self._send_chain(chain))
                self._under_way[subject] = task
                task.add_done_callback(functools.partial(self._done, subject))
        return wait_s, len(notices)

    def _done(self, subject: str, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(subject, None)
        if not task.cancelled() and (fault := task.exception()):
            log.warning("webhook events wait", extra=self._about() | {"why": str(fault)})
            return  # the next look finds them
        if subject in self._more or not self._under_way:
            self._more.discard(subject)
            self._woken.set()

    async def _count(self) -> None:
        notices, name = self._parts.store.notices, self.policy.name
        waiting, dead = await notices.count(name)
        if dead > MAX_DEAD:
            await notices.drop(await notices.dead(name, dead - MAX_DEAD))
            log.error("webhook events that were laid aside have left", extra=self._about())
        self._counted(name, waiting, dead)

    async def _send_chain(self, chain: Sequence[Notice]) -> None:
        """Those of one payment, one after the other, up to the first that has to wait."""
        for notice in chain:
            if (due := await self._due(notice)) is None:
                await self._parts.store.notices.drop((notice,))
            elif due > self._parts.clock() or not await self._send(notice):
                return

    async def _due(self, notice: Notice) -> float | None:
        """When it is to be sent; None: never, because it was over before anybody could have looked."""
        if notice.kind is not Kind.ORPHANED or notice.attempts:
            return notice.due
        record, stands_at = await self._parts.store.get(notice.subject), notice.at + ORPHAN_STANDS_S
        if record is not None and record.orphan:
            return max(notice.due, stands_at)
        return None if record is not None and record.updated_at < stands_at else notice.due

    async def _send(self, notice: Notice) -> bool:
        """One attempt; True where the next event may follow: it was taken, or laid aside."""
        async with self._places:
            answered = await self._attempt(notice)
        notices, told = self._parts.store.notices, self._parts.telemetry.webhook
        if not answered.why:
            told(self.policy.name, "taken")
            await notices.drop((notice,))
            return True
        tried = notice.attempts + 1
        dead = answered.gone or tried >= self.policy.attempts
        wait_s = max(pause_s(tried, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S), answered.wait_s)
        due = self._parts.clock() + wait_s
        await notices.put(
            msgspec.structs.replace(notice, attempts=tried, due=due, why=answered.why, dead=dead)
        )
        told(self.policy.name, "dead" if dead else "failed")
        about = self._about() | {
            "event": notice.kind,
            "id": notice.id,
            "why": answered.why,
            "attempts": tried,
        }
        if dead:
            log.error("a webhook event was laid aside; `guardian webhooks retry` sends it", extra=about)
        else:
            log.warning("a webhook event was not taken", extra=about)
        return dead

    async def _attempt(self, notice: Notice) -> Answered:
        body, now = notice.body.encode(), self._parts.clock()
        headers = [_JSON, _AGENT, *signed_headers(notice.id, int(now), body, self._secret.get())]
        try:
            reply = await self._client.post("", headers, body, timeout_s=self.policy.timeout_s)
        except (NotSent, ReplyLost) as fault:
            return Answered(str(fault)[:MAX_WHY_CHARS] or "no answer")
        if 200 <= reply.status < 300:
            return Answered()
        wait_s = retry_after_s(reply.headers, now) or 0.0
        return Answered(f"http {reply.status}", wait_s, reply.status == _GONE)

    def _about(self) -> dict[str, object]:
        return {"webhook": self.policy.name}
