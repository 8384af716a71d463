"""`guardian settlements list | show`, `guardian orphans list | show`: what became of payments."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from guardian.commands.output import print_json, print_lines, print_table, write_time
from guardian.commands.source import Records
from guardian.errors import GuardianError
from guardian.settings import OPS_LISTEN, STORE
from guardian.settlement.states import Money

if TYPE_CHECKING:
    from guardian.store.protocol import Store

settlements = typer.Typer(help="Payments and what became of them.")
orphans = typer.Typer(help="Payments that were taken and not delivered.")

Ops = Annotated[
    str | None,
    typer.Option(
        help="Operations API of the running guardian [default: where GUARDIAN_OPS_LISTEN says, else "
        f"http://{OPS_LISTEN}]."
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        help="Use this store itself, also while a guardian runs [default: ask the running guardian; where "
        f"none runs, GUARDIAN_STORE, else {STORE}]."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID")]
MOST = 1000
Limit = Annotated[int, typer.Option(min=1, max=MOST, help="How many, newest first.")]

PARTIES = ("PAYER", "PAYEE", "TRANSACTION")
_HEAD = ("ID", "MONEY", "ANSWER", "NETWORK", "AMOUNT", "PAYER", "PAYEE", "TRANSACTION", "CREATED")
_HIDDEN = frozenset({"body", "signature", "signature_hash", "signatureHash"})
_TIMES = frozenset({"created_at", "updated_at", "at"})


@settlements.command("list")
def list_settlements(
    money: Annotated[list[str] | None, typer.Option(help="Only this money state; may be repeated.")] = None,
    limit: Limit = 100,
    ops: Ops = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List payments, newest first."""
    for state in money or ():
        if state not in tuple(Money):
            raise GuardianError(f"--money: {state[:40]!r} is no money state; use one of {', '.join(Money)}")
    _print_page(Records(ops, store).page(money=money or [], orphans=False, limit=limit), limit, as_json)


@settlements.command()
def show(id: Id, ops: Ops = None, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show one payment and its audit trail."""
    _print_one(_found(id, ops, store), as_json)


def _found(id: str, ops: str | None, store: str | None) -> dict[str, Any]:
    record = Records(ops, store).one(id)
    if record is None:
        raise GuardianError(f"ID: there is no settlement {id[:80]!r}; `guardian settlements list` shows them")
    return record


def _print_one(record: dict[str, Any], as_json: bool) -> None:
    record = _shown(record)
    if as_json:
        print_json(record)
        return
    events = record.pop("events", None) or ()
    print_lines(*(f"{name + ':':<20}{_cell(name, value)}" for name, value in record.items()))
    print_lines("", "audit trail:")
    rows = [[_cell(k, event.get(k)) for k in ("at", "name", "money", "answer", "note")] for event in events]
    print_table(("AT", "EVENT", "MONEY", "ANSWER", "NOTE"), rows)


@orphans.command("list")
def list_orphans(
    limit: Limit = 100, ops: Ops = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """List payments that were taken and whose caller holds no success."""
    _print_page(Records(ops, store).page(money=[], orphans=True, limit=limit), limit, as_json)


@orphans.command("show")
def show_orphan(
    id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or its key.")],
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence", help="Print its evidence bundle, as JSON; see `guardian evidence verify`."
        ),
    ] = False,
    ops: Ops = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show one orphan, standing or closed, and its audit trail."""
    id = _id_of(id)
    if evidence:
        print_json(_evidence(id, ops, store))
        return
    record = _found(id, ops, store)
    if not record.get("orphan") and not record.get("closed_by"):
        state = f"money {record.get('money')}, answer {record.get('answer')}"
        raise GuardianError(f"ID: {id[:80]!r} is no orphan: {state}; `guardian settlements show` shows it")
    _print_one(record, as_json)


def _id_of(key_or_id: str) -> str:
    from guardian.flow.evidence import id_of

    return id_of(key_or_id)


def _evidence(id: str, ops: str | None, store: str | None) -> dict[str, Any]:
    from guardian.flow.evidence import evidence_in_store
    from guardian.flow.sealing import sealing_from

    async def read(opened: "Store") -> Any:
        return await evidence_in_store(opened, id, sealing_from(os.environ), time.time())

    found = Records(ops, store).read(f"/api/orphans/{quote(id, safe='')}/evidence", read)
    if not isinstance(found, dict):
        raise GuardianError(f"ID: there is no settlement {id[:80]!r}; `guardian orphans list` shows them")
    return found


def _print_page(records: list[dict[str, Any]], limit: int, as_json: bool) -> None:
    if len(records) >= limit:  # who works a queue off must not take its newest part for all of it
        sys.stderr.write(f"the newest {limit}; older ones may follow: --limit shows up to {MOST}\n")
    records = [_shown(record) for record in records]
    if as_json:
        print_json(records)
        return
    names = ("id", "money", "answer", "network", "amount", "payer", "pay_to", "transaction", "created_at")
    rows = [[_cell(name, record.get(name)) for name in names] for record in records]
    print_table(_HEAD, rows, short=PARTIES)


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _HIDDEN}


def _cell(name: str, value: object) -> str:
    if name in _TIMES and isinstance(value, int | float):
        return write_time(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)
