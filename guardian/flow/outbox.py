"""What becomes of payments, as events for webhooks: written with the move that they tell of. No I/O.

Where no webhook is configured nothing is made. What is full takes nothing more: the record still says it.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from guardian.facilitator.circuit import CircuitKey
from guardian.logs import redact
from guardian.policy.webhooks import WebhookPolicy
from guardian.settlement.notice import Kind, Notice, kinds_of
from guardian.settlement.record import Settlement

MAX_WAITING: Final = 10_000
"""Events of one webhook; some 10 MB. A receiver that is down for so long finds the rest by asking."""

_CIRCUIT: Final = {"open": Kind.CIRCUIT_OPENED, "closed": Kind.CIRCUIT_CLOSED}


class Outbox:
    """Makes events for the webhooks in force. waiting: how many of each there are, as far as is known."""

    def __init__(self, clock: Callable[[], float], full: Callable[[str], None]) -> None:
        """full: told the webhook whose event was not kept."""
        self._clock = clock
        self._full = full
        self._hooks: tuple[WebhookPolicy, ...] = ()
        self.waiting: dict[str, int] = {}
        self.kept: Callable[[str], None] = lambda hook: None

    def use(self, hooks: Sequence[WebhookPolicy]) -> None:
        """Make events for these from now on."""
        self._hooks = tuple(hooks)
        self.waiting = {hook.name: self.waiting.get(hook.name, 0) for hook in hooks}

    def of_move(self, old: Settlement, new: Settlement) -> Sequence[Notice]:
        """To be written with a record's next version."""
        if not self._hooks:
            return ()
        made: list[Notice] = []
        for kind in kinds_of(old, new):
            if hooks := self._room_for(kind):
                id = _id_of(new, kind)
                body = _body(kind, new.updated_at, _of_payment(new))
                made += [_notice(id, hook, new.key, kind, new.updated_at, body) for hook in hooks]
        return made

    def of_circuit(self, key: CircuitKey, state: str) -> Sequence[Notice]:
        """To be kept by themselves."""
        kind = _CIRCUIT.get(state)
        hooks = self._room_for(kind) if kind is not None else ()
        if kind is None or not hooks:
            return ()
        now, subject = self._clock(), "/".join(("circuit", *key))
        about = {"facilitator": key.facilitator, "network": key.network, "operation": str(key.operation)}
        body = _body(kind, now, about | {"state": state})
        id = f"msg_{secrets.token_hex(16)}"
        return [_notice(id, hook, subject, kind, now, body) for hook in hooks]

    def written(self, notices: Sequence[Notice]) -> None:
        """They are in the store: whoever sends them may look."""
        for notice in notices:
            self.waiting[notice.hook] = self.waiting.get(notice.hook, 0) + 1
            self.kept(notice.hook)

    def _room_for(self, kind: Kind) -> list[str]:
        wanted = [hook.name for hook in self._hooks if kind in hook.events]
        full = [name for name in wanted if self.waiting.get(name, 0) >= MAX_WAITING]
        for name in full:
            self._full(name)
        return [name for name in wanted if name not in full]


def _notice(id: str, hook: str, subject: str, kind: Kind, at: float, body: str) -> Notice:
    return Notice(id=id, hook=hook, subject=subject, kind=kind, at=at, body=body)


def _id_of(record: Settlement, kind: Kind) -> str:
    """The same for the same move, however often its write is tried; another for every other."""
    name = f"{record.key} {record.created_at!r} {record.version} {kind}"
    return "msg_" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _body(kind: Kind, at: float, data: Mapping[str, object]) -> str:
    return orjson.dumps({"type": kind, "timestamp": _when(at), "data": data}).decode()


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _of_payment(record: Settlement) -> dict[str, object]:
    """What a receiver may know: the parties and what is on chain, no request, no signature."""
    return {
        "id": record.id,
        "plane": record.plane,
        "money": record.money,
        "answer": record.answer,
        "orphan": record.orphan,
        "network": record.network,
        "scheme": record.scheme,
        "asset": record.asset,
        "payer": record.payer,
        "payTo": record.pay_to,
        "amount": str(record.amount),
        "transaction": record.transaction,
        "reportedTransaction": record.hint,
        "watched": record.watched,
        "chainProven": record.chain_proven,
        "facilitator": record.facilitator,
        "route": record.route,
        "resource": redact(record.resource),
        "reason": redact(record.reason),
        "message": redact(record.message),
        "refundTransaction": record.refund_transaction,
        "closedBy": record.closed_by,
        "createdAt": _when(record.created_at),
        "updatedAt": _when(record.updated_at),
    }
