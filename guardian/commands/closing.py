"""`guardian orphans refund | write-off` and `guardian reconcile`: what a person does about open payments.

The running guardian is told, so that it hands the success out to nobody meanwhile, and holds a refund
against the chain. Where none runs, the store is written to instead.
"""

import time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlencode

import typer

from guardian.commands.networks import read_network
from guardian.commands.output import print_json, print_lines, print_table
from guardian.commands.records import PARTIES, AsJson, Id, Ops, orphans
from guardian.commands.source import Records, View
from guardian.errors import CannotClose, GuardianError
from guardian.settings import STORE

if TYPE_CHECKING:
    from guardian.flow.orphans import Close
    from guardian.settlement.record import Settlement
    from guardian.store.protocol import Store

StoreUrl = Annotated[
    str | None,
    typer.Option(
        help="The store to write to where no guardian runs, or the one that runs does not know the payment "
        f"[default: GUARDIAN_STORE, else {STORE}]."
    ),
]
By = Annotated[str, typer.Option("--by", help="Your name, for the audit trail.")]

_HEAD = ("ID", "MONEY", "ANSWER", "NETWORK", "AMOUNT", "PAYER", "PAYEE", "CHAIN", "THEN")
_COLUMNS = ("id", "money", "answer", "network", "amount", "payer", "pay_to", "chain", "then")


@orphans.command()
def refund(
    id: Id,
    transaction: Annotated[str, typer.Option(help="The hash of the transfer back to the payer.")],
    by: By,
    note: Annotated[str, typer.Option(help="Anything worth keeping.")] = "",
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take the hash as it is, without asking the chain.")
    ] = False,
    ops: Ops = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take an orphan off the queue: the payer has the money back."""

    async def offline(opened: "Store") -> View:
        from guardian.edge.views import settlement_view
        from guardian.flow.orphans import close_in_store, refund_unverified

        def close(record: "Settlement") -> "Close":
            if record.watched and not unverified:
                raise CannotClose("transaction: no guardian runs that could ask the chain; say --unverified")
            return refund_unverified(record, transaction, by, note, time.time())

        return settlement_view(await close_in_store(opened, id, close))

    content = {"transaction": transaction, "by": by, "note": note, "unverified": unverified}
    record = Records(ops, store).told(f"/api/orphans/{quote(id, safe='')}/refund", content, offline)
    _print_closed(id, record, as_json)


@orphans.command("write-off")
def write_off(
    id: Id,
    reason: Annotated[str, typer.Option(help="Why nothing more is done about it.")],
    by: By,
    ops: Ops = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take an orphan off the queue: nothing more is done about it."""

    async def offline(opened: "Store") -> View:
        from guardian.edge.views import settlement_view
        from guardian.flow import orphans as queue

        closed = await queue.close_in_store(opened, id, lambda _: queue.write_off(reason, by, time.time()))
        return settlement_view(closed)

    content = {"reason": reason, "by": by}
    record = Records(ops, store).told(f"/api/orphans/{quote(id, safe='')}/write-off", content, offline)
    _print_closed(id, record, as_json)


def _print_closed(id: str, record: View | None, as_json: bool) -> None:
    if record is None:
        raise GuardianError(f"ID: there is no settlement {id[:80]!r}; `guardian orphans list` shows them")
    if as_json:
        print_json(record)
        return
    line = (record.get("events") or [{}])[-1]
    print_lines(f"{record.get('id')}: {line.get('name')} {line.get('note')}")


def reconcile(
    network: Annotated[
        list[str] | None, typer.Option(help="Only this one, a CAIP-2 id or a v1 name; may be repeated.")
    ] = None,
    take_up: Annotated[
        bool,
        typer.Option("--take-up", help="First take up what was left lying, as the guardian does by itself."),
    ] = False,
    ops: Ops = None,
    as_json: AsJson = False,
) -> None:
    """Show every payment that is not over, beside what the chain shows of it. Asks the running guardian."""
    query = urlencode([("network", read_network(name)) for name in network or ()])
    path = f"/api/reconcile?{query}" if query else "/api/reconcile"
    answer = Records(ops).told(path, {}, None) if take_up else Records(ops).asked(path)
    found = answer.get("standing") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise GuardianError("--ops: what answers there knows no reconciliation; is it the guardian's?")
    if as_json:
        print_json(found)
        return
    rows = [[str(record.get(name) or "-") for name in _COLUMNS] for record in found]
    print_table(_HEAD, rows, short=PARTIES)
    print_lines(f"{len(found)} payments are not over" if found else "nothing is open")
