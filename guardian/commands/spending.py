"""`guardian spending show | stop | resume` and `guardian approvals list | approve | deny`.

The running guardian does it: where none runs, nobody pays.
"""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from guardian.commands.output import print_json, print_lines, print_table, write_time
from guardian.commands.records import AsJson, Id, Ops
from guardian.commands.source import Records, View
from guardian.errors import GuardianError

spending = typer.Typer(help="What agents spend, and the switch that stops them.")
approvals = typer.Typer(help="Payments of agents that wait for a person.")

By = Annotated[str, typer.Option("--by", help="Your name, for the log and for whoever asks.")]
Note = Annotated[str, typer.Option(help="Anything worth telling.")]

_BUDGETS = ("rule", "limit", "whose", "network", "asset", "window", "counted")
_APPROVALS = ("id", "state", "amount", "asset", "network", "pay_to", "caller", "rule", "url", "until")


@spending.command()
def show(ops: Ops = None, as_json: AsJson = False) -> None:
    """Show what is counted in the budgets of this hour and day, and whether spending is stopped."""
    found = _asked("/api/spending", "budgets", ops)
    if as_json:
        print_json(found)
        return
    print_table(
        [name.upper() for name in _BUDGETS],
        [[str(one.get(name) or "-") for name in _BUDGETS] for one in found["budgets"]],
    )
    _print_switch(found)


@spending.command()
def stop(
    by: By,
    reason: Annotated[str, typer.Option(help="Why; agents are told.")] = "",
    ops: Ops = None,
    as_json: AsJson = False,
) -> None:
    """Refuse every new payment of agents, at once and until `guardian spending resume`."""
    _switch("/api/spending/stop", {"by": by, "reason": reason}, ops, as_json)


@spending.command()
def resume(by: By, ops: Ops = None, as_json: AsJson = False) -> None:
    """Take payments of agents again, as far as the policy does."""
    _switch("/api/spending/resume", {"by": by}, ops, as_json)


@approvals.command("list")
def list_approvals(ops: Ops = None, as_json: AsJson = False) -> None:
    """List payments that wait for an approval, and those decided lately."""
    found = _asked("/api/approvals", "approvals", ops)["approvals"]
    if as_json:
        print_json(found)
        return
    rows = [[_cell(name, one.get(name)) for name in _APPROVALS] for one in found]
    print_table([name.upper() for name in _APPROVALS], rows)


@approvals.command()
def approve(
    id: Id,
    by: By,
    note: Note = "",
    lasts: Annotated[
        str | None, typer.Option(help="How long its payment may come, like 10m [default: the policy's].")
    ] = None,
    ops: Ops = None,
    as_json: AsJson = False,
) -> None:
    """Let a payment pass, once: the next request for the same purchase."""
    content: View = {"by": by, "note": note}
    if lasts is not None:
        content["lasts_s"] = _seconds(lasts)
    _decide(id, "approve", content, ops, as_json)


@approvals.command()
def deny(id: Id, by: By, note: Note = "", ops: Ops = None, as_json: AsJson = False) -> None:
    """Refuse a payment that waits; whoever asks again is told."""
    _decide(id, "deny", {"by": by, "note": note}, ops, as_json)


def _asked(path: str, part: str, ops: str | None) -> View:
    answer = Records(ops).asked(path)
    if not isinstance(answer, dict) or not isinstance(answer.get(part), list):
        raise GuardianError("--ops: what answers there knows no spending; is it the guardian's?")
    return answer


def _switch(path: str, content: View, ops: str | None, as_json: bool) -> None:
    answer = Records(ops).told(path, content, None)
    if not isinstance(answer, dict):
        raise GuardianError("--ops: what answers there knows no spending; is it the guardian's?")
    if as_json:
        print_json(answer)
        return
    _print_switch(answer)


def _print_switch(answer: View) -> None:
    by_hand: Any = answer.get("stopped")
    if by_hand:
        why = f": {by_hand.get('reason')}" if by_hand.get("reason") else ""
        print_lines(f"stopped by {by_hand.get('by')} at {_cell('at', by_hand.get('at'))}{why}")
    if answer.get("stopped_by_policy"):
        print_lines("stopped by the policy (spending.stop)")
    if not by_hand and not answer.get("stopped_by_policy"):
        print_lines("not stopped")


def _decide(id: str, how: str, content: View, ops: str | None, as_json: bool) -> None:
    answer = Records(ops).told(f"/api/approvals/{quote(id, safe='')}/{how}", content, None)
    if answer is None:
        raise GuardianError(f"ID: there is no approval {id[:80]!r}; `guardian approvals list` shows them")
    if as_json:
        print_json(answer)
        return
    print_lines(f"{answer.get('id')}: {answer.get('state')} until {_cell('until', answer.get('until'))}")


def _seconds(text: str) -> float:
    from guardian.policy.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as fault:
        raise GuardianError(f"--lasts: {fault}") from fault


def _cell(name: str, value: object) -> str:
    if name in ("at", "until") and isinstance(value, int | float):
        return write_time(value)
    return "-" if value is None or value == "" else str(value)
