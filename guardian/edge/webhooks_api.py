"""The part of the operations port that is about webhooks: how they stand, what was laid aside, and again."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardian.edge.posted import Refused, answer, read_posted
from guardian.flow.webhooks import Webhooks
from guardian.logs import redact
from guardian.settlement.notice import Notice

MAX_SHOWN = 1000


class RetryAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be sent again: these ids, or all of a webhook, or all."""

    ids: list[str] = []
    webhook: str = ""


class ForgetAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Whose events are to be dropped: of a webhook that the policy names no longer."""

    webhook: str


class WebhooksApi:
    """Answers below /api/webhooks."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    @property
    def routes(self) -> list[Route]:
        """What of the operations port is answered here."""
        return [
            Route("/api/webhooks", self.show, methods=["GET"]),
            Route("/api/webhooks/retry", self.retry, methods=["POST"]),
            Route("/api/webhooks/forget", self.forget, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Each webhook with its counts, what the store has of others, and the events that were laid aside,
        the first thousand."""
        standing = [
            {"name": policy.name, "events": list(policy.events), "waiting": waiting, "dead": dead}
            for policy, waiting, dead in await self._webhooks.standing()
        ]
        dead = [notice_view(notice) for notice in await self._webhooks.dead(MAX_SHOWN)]
        removed = [
            {"name": name, "waiting": waiting, "dead": dead}
            for name, waiting, dead in await self._webhooks.removed()
        ]
        return answer(200, {"webhooks": standing, "removed": removed, "dead": dead})

    async def retry(self, request: Request) -> Response:
        """Send again what was laid aside."""
        asked = await read_posted(request, RetryAsked)
        names = [policy.name for policy, _, _ in await self._webhooks.standing()]
        if asked.webhook and asked.webhook not in names:
            raise Refused(404, f"no webhook {asked.webhook[:80]}")
        found = await self._webhooks.retry(frozenset(asked.ids), asked.webhook)
        return answer(
            200, {"retried": [notice_view(notice) for notice in found[:MAX_SHOWN]], "count": len(found)}
        )

    async def forget(self, request: Request) -> Response:
        """Drop the events of a webhook that is in the policy no longer."""
        asked = await read_posted(request, ForgetAsked)
        gone = await self._webhooks.forget(asked.webhook)
        if gone is None:
            why = f"{asked.webhook[:80]} is in the policy; take it out first, or let its events be sent"
            raise Refused(409, why)
        if not gone:
            raise Refused(404, f"no events of a webhook {asked.webhook[:80]}")
        return answer(200, {"dropped": gone})


def notice_view(notice: Notice) -> dict[str, object]:
    """What an operator sees of an event."""
    return {
        "id": notice.id,
        "webhook": notice.hook,
        "event": notice.kind,
        "about": notice.subject,
        "at": notice.at,
        "attempts": notice.attempts,
        "why": redact(notice.why),
    }
