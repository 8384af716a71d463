"""All webhooks of the policy in force, and what a person does about events that were laid aside."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping

import msgspec

from guardian.errors import StoreUnavailable
from guardian.facilitator.auth import Secret
from guardian.facilitator.circuit import CircuitKey
from guardian.flow.live import until_recorded
from guardian.flow.outbox import MAX_WAITING, Outbox
from guardian.flow.parts import Parts, log
from guardian.flow.webhook import MAX_DEAD, Webhook
from guardian.flow.webhook_signature import read_keys
from guardian.policy.model import Policy
from guardian.policy.webhooks import WebhookPolicy
from guardian.settlement.notice import Notice

TOPIC = "webhook"
"""Between replicas: the name of a webhook that has something new."""

FORGET_STEP = 50
MAX_FORGOTTEN = 2 * (MAX_WAITING + MAX_DEAD)
"""More than one webhook can have."""

Secrets = Mapping[str, Secret[tuple[bytes, ...]]]


def read_secrets(policy: Policy, environ: Mapping[str, str]) -> Secrets:
    """Those that a policy names, by webhook; raises PolicyError for one that is missing or no such secret."""
    return {
        hook.name: Secret(hook.secret, environ, f"webhooks[{place}].secret", read_keys)
        for place, hook in enumerate(policy.webhooks)
    }


class Webhooks:
    """Sends events, each webhook by itself."""

    def __init__(self, parts: Parts, outbox: Outbox, secrets: Secrets) -> None:
        self._parts = parts
        self._outbox = outbox
        self._hooks: dict[str, Webhook] = {}
        self._started = False
        outbox.kept = self._kept
        self._make(parts.policy, secrets)

    def start(self) -> None:
        """Begin to send, once the store is open."""
        self._started = True
        self._parts.store.listen(TOPIC, self._told)
        for hook in self._hooks.values():
            hook.start()

    async def stop(self) -> None:
        """Stop sending; what waits stays in the store. Idempotent."""
        self._started = False
        for hook in self._hooks.values():
            await hook.stop()

    async def use(self, policy: Policy, secrets: Secrets) -> None:
        """Send for another policy from now on; those that it names as before go on."""
        for hook in self._make(policy, secrets):
            await hook.stop()
        if self._started:
            for hook in self._hooks.values():
                hook.start()

    def circuit_changed(self, key: CircuitKey, state: str) -> None:
        """A circuit of this replica's own has changed."""
        if notices := self._outbox.of_circuit(key, state):

            async def keep() -> None:
                await self._parts.store.notices.keep(notices)
                self._outbox.written(notices)

            self._parts.tasks.spawn(until_recorded(keep), "circuit event")

    async def standing(self) -> list[tuple[WebhookPolicy, int, int]]:
        """Every webhook, how many events wait, and how many were laid aside. Raises StoreUnavailable."""
        notices = self._parts.store.notices
        return [(hook.policy, *await notices.count(name)) for name, hook in self._hooks.items()]

    async def removed(self) -> list[tuple[str, int, int]]:
        """What stands in the store of webhooks that the policy names no longer: name, how many events would
        wait, how many were laid aside. It stays until `forget`, because a name may be missing by mistake.
        Raises StoreUnavailable."""
        notices = self._parts.store.notices
        names = [name for name in await notices.hooks() if name not in self._hooks]
        return [(name, *await notices.count(name)) for name in names]

    async def forget(self, hook: str) -> int | None:
        """Drop all events of a webhook that the policy does not name; how many it were. None where it names
        it: those are still to be sent. Raises StoreUnavailable."""
        notices, gone = self._parts.store.notices, 0
        if hook in self._hooks:
            return None
        for _ in range(MAX_FORGOTTEN // FORGET_STEP):
            found = await notices.waiting(hook, FORGET_STEP) or await notices.dead(hook, FORGET_STEP)
            if not found:
                break
            await asyncio.gather(*(notices.drop([one]) for one in found))
            gone += len(found)
        if gone:
            log.warning("events of a removed webhook dropped", extra={"webhook": hook, "events": gone})
        return gone

    async def dead(self, limit: int) -> list[Notice]:
        """Events that were laid aside, oldest first of each webhook. Raises StoreUnavailable."""
        notices = self._parts.store.notices
        return [one for name in self._hooks for one in await notices.dead(name, limit)][:limit]

    async def retry(self, ids: Collection[str] = (), hook: str = "") -> list[Notice]:
        """Send what was laid aside again, from the first attempt: these, or all of a webhook, or all."""
        store, done = self._parts.store.notices, list[Notice]()
        for name in [hook] if hook else list(self._hooks):
            for notice in await store.dead(name, MAX_DEAD):
                if not ids or notice.id in ids:
                    done.append(msgspec.structs.replace(notice, attempts=0, due=0.0, dead=False))
                    await store.put(done[-1])
            self._kept(name)
        return done

    def _make(self, policy: Policy, secrets: Secrets) -> list[Webhook]:
        """Those of a policy; what is left over."""
        before, self._hooks = self._hooks, {}
        self._outbox.use(policy.webhooks)
        for one in policy.webhooks:
            known = before.get(one.name)
            if known is not None and known.policy == one:
                self._hooks[one.name] = before.pop(one.name)
                continue
            self._hooks[one.name] = Webhook(self._parts, one, secrets[one.name], self._counted)
        return list(before.values())

    def _counted(self, name: str, waiting: int, dead: int) -> None:
        self._outbox.waiting[name] = waiting
        self._parts.telemetry.webhook_events(name, waiting, dead)

    def _kept(self, name: str) -> None:
        hook = self._hooks.get(name)
        if hook is None:
            return
        hook.wake()
        if self._parts.store.shared and not hook.leads:
            self._parts.tasks.spawn(self._tell(name), "webhook")

    async def _tell(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailable):  # whoever sends looks for itself too
            await self._parts.store.tell(TOPIC, name.encode())

    def _told(self, message: bytes) -> None:
        hook = self._hooks.get(message.decode())
        if hook is not None:
            hook.wake()
