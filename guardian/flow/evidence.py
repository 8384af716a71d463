"""The evidence bundle of a payment: what was asked, wanted, signed, sent, heard, and what the chain shows.

One JSON object without floats, so that everybody writes it alike: keys sorted, no blanks, UTF-8. Its member
`sha256` is the hash of all the others. It carries nothing that can be spent: in place of a signature stands
its hash, also where the nonce is used up; whoever needs the signature finds it on chain.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from guardian import __version__
from guardian.chain.onchain import OnChain, on_chain
from guardian.errors import BadPayment, ChainUnavailable
from guardian.flow.buy_record import Kept, opened
from guardian.flow.parts import Parts
from guardian.flow.sealing import Sealing
from guardian.flow.watch import target_of
from guardian.logs import redact
from guardian.settlement.attempts import Attempt
from guardian.settlement.record import AGENT, Settlement
from guardian.store.protocol import Store
from guardian.wire.encoded import decoded
from guardian.wire.names import public_id
from guardian.wire.stripped import read_stripped

FORMAT: Final = 1
Bundle = dict[str, Any]


def id_of(key_or_id: str) -> str:
    """The id of a record by either name."""
    if "/" not in key_or_id:
        return key_or_id
    return public_id(key_or_id)


async def evidence(parts: Parts, record: Settlement, sealing: Sealing) -> Bundle:
    """All that is known of a payment, with what the chain shows of it now."""
    watcher = parts.watchers.get(record.network)
    transaction = record.transaction or record.hint
    found: OnChain | str = "no chain of this network is read here"
    if transaction is None:
        found = "no transaction is known"
    elif watcher is not None and record.watched:
        try:
            found = await on_chain(watcher.endpoints, transaction, target_of(record))
        except ChainUnavailable as fault:
            found = str(fault)
    return bundle(record, sealing, found, parts.clock())


async def evidence_in_store(store: Store, key_or_id: str, sealing: Sealing, now: float) -> Bundle | None:
    """The same where no guardian runs, without the chain; None for an unknown payment."""
    record = await store.get_by_id(id_of(key_or_id))
    return bundle(record, sealing, "not asked: no guardian runs", now) if record is not None else None


def bundle(record: Settlement, sealing: Sealing, found: OnChain | str, now: float) -> Bundle:
    """found: on the chain, or why nothing is told of it; now: Unix seconds."""
    request, signed = _request(record, sealing)
    content: Bundle = {
        "evidence": FORMAT,
        "made_at": when(now),
        "made_by": f"payment-guardian {__version__}",
        "payment": _payment(record),
        "request": request,
        "requirements": _redacted(signed.get("requirements")),
        "authorization": signed.get("authorization") or None,
        "withheld": signed.get("withheld", {}) | {"signature_hash": record.signature_hash},
        "transaction": _transaction(record, found),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "attempts_made": record.attempts_made,
        "trail": [
            {
                "at": when(event.at),
                "name": event.name,
                "money": event.money,
                "answer": event.answer,
                "note": redact(event.note),
            }
            for event in record.events
        ],
    }
    content = _plain(content)
    return content | {"sha256": hash_of(content)}


def hash_of(content: Mapping[str, Any]) -> str:
    """sha256, in hex, of a bundle without its own."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def when(seconds: float) -> str:
    """A moment as RFC 3339, in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_NAMED: Final = (
    *("id", "key", "plane", "x402_version", "scheme", "method", "network", "network_as_sent", "asset"),
    *("payer", "pay_to", "nonce", "valid_before", "money", "answer", "watched", "chain_proven", "tainted"),
    *("facilitator", "route", "paid_by", "replayed_by", "closed_by", "closed_note", "refund_transaction"),
)


def _payment(record: Settlement) -> Bundle:
    said = {name: redact(getattr(record, name)) for name in ("resource", "reason", "message")}
    return (
        {name: getattr(record, name) for name in _NAMED}
        | said
        | {
            "amount": str(record.amount),
            "orphan": record.orphan,
            "created_at": when(record.created_at),
            "updated_at": when(record.updated_at),
        }
    )


def _request(record: Settlement, sealing: Sealing) -> tuple[Bundle, Bundle]:
    """What was asked, and what stands in the payment that was sent with it."""
    if record.plane != AGENT:
        kept = read_stripped(record.body)
        about = {"method": "POST", "path": "/settle", "resource": redact(record.resource)}
        return about | {"body": kept.get("body")}, kept
    about = {"method": record.verb, "url": redact(record.resource), "purchase": record.purchase}
    body = {"sha256": record.request_hash or None}
    return about | {"body": body}, _signed(opened(record, sealing))


def _signed(kept: Kept | None) -> Bundle:
    """The parts of a payment that travels in a header."""
    if kept is None:
        return {}
    try:
        wrapper = orjson.loads(decoded(kept.value, kept.header))
        terms = orjson.loads(kept.terms) if kept.terms else None
    except (BadPayment, ValueError):
        return {}
    whole = read_stripped(orjson.dumps({"paymentPayload": wrapper, "paymentRequirements": terms}))
    return whole | {"body": None}


def _transaction(record: Settlement, found: OnChain | str) -> Bundle:
    known: Bundle = {
        "hash": record.transaction or record.hint,
        "proven_by_the_guardian": record.chain_proven,
        "block": None,
        "use": None,
        "logs": [],
        "not_told_because": None,
    }
    if isinstance(found, str):
        return known | {"not_told_because": redact(found)}
    block = {"number": found.block, "hash": found.block_hash, "time": when(found.time)}
    told = asdict(found)
    return known | {"block": block, "use": told["use"], "detail": told["detail"], "logs": list(found.logs)}


def _attempt(attempt: Attempt) -> Bundle:
    return {
        "at": when(attempt.at),
        "last_at": when(attempt.last_at or attempt.at),
        "times": attempt.times,
        "to": attempt.to,
        "status": attempt.status or None,
        "note": attempt.note,
        "body": {"excerpt": attempt.excerpt, "bytes": attempt.size, "sha256": attempt.sha256 or None},
    }


def _plain(value: Any) -> Any:
    """Texts, whole numbers that JSON carries exactly, and nothing that two programs write in two ways."""
    match value:
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case bool() | None:
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case float():
            return repr(value)
    return _text(str(value))


def _redacted(value: Any) -> Any:
    """What a caller wrote, without what looks like a secret in it."""
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
