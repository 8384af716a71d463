"""`guardian webhooks list | retry | forget`: what was sent to nobody yet. Asks the running guardian."""

from typing import Annotated, Any

import typer

from guardian.commands.output import print_json, print_lines, print_table, write_time
from guardian.commands.records import AsJson, Ops
from guardian.commands.source import Records
from guardian.errors import GuardianError

webhooks = typer.Typer(help="Events for webhooks that wait, or were laid aside.")

_HEAD = ("WEBHOOK", "WAITING", "DEAD", "EVENTS")
_DEAD_HEAD = ("ID", "WEBHOOK", "EVENT", "AT", "ATTEMPTS", "WHY")


@webhooks.command("list")
def list_webhooks(ops: Ops = None, as_json: AsJson = False) -> None:
    """Show each webhook, and the events that were laid aside."""
    found = _answer(Records(ops).asked("/api/webhooks"), "webhooks")
    if as_json:
        print_json(found)
        return
    print_table(_HEAD, [_row(one) for one in found["webhooks"]])
    if found.get("removed"):
        print_lines("", "not in the policy, and still in the store (webhooks forget NAME drops them):")
        print_table(_HEAD[:-1], [_row(one)[:-1] for one in found["removed"]])
    if found.get("dead"):
        print_lines("", "laid aside:")
        print_table(_DEAD_HEAD, [_dead_row(one) for one in found["dead"]])


@webhooks.command()
def retry(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids of events that were laid aside.")
    ] = None,
    webhook: Annotated[str, typer.Option(help="All of this webhook.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of every webhook.")] = False,
    ops: Ops = None,
) -> None:
    """Send events that were laid aside again, from the first attempt."""
    if sum((bool(ids), bool(webhook), everything)) != 1:
        raise GuardianError("ID: name events, or a --webhook, or --all")
    content = {"ids": list(ids or ()), "webhook": webhook}
    told = Records(ops).told("/api/webhooks/retry", content, None)
    if told is None:
        raise GuardianError(f"--webhook: there is none called {webhook[:80]!r}; `guardian webhooks list`")
    found = _answer(told, "retried")
    print_lines(f"{found.get('count')} events are sent again")
    if ids and found.get("count") != len(set(ids)):
        raise GuardianError("ID: not all of them were laid aside; `guardian webhooks list` shows them")


@webhooks.command()
def forget(name: Annotated[str, typer.Argument(metavar="NAME")], ops: Ops = None) -> None:
    """Drop the events of a webhook that is in the policy no longer; nobody will hear of them."""
    told = Records(ops).told("/api/webhooks/forget", {"webhook": name}, None)
    if told is None:
        raise GuardianError(
            f"NAME: nothing waits for {name[:80]!r}; `guardian webhooks list` shows what does"
        )
    if not isinstance(told, dict) or "dropped" not in told:
        raise GuardianError("--ops: what answers there knows no webhooks; is it the guardian's?")
    print_lines(f"{told['dropped']} events dropped")


def _answer(found: Any, part: str) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get(part), list):
        raise GuardianError("--ops: what answers there knows no webhooks; is it the guardian's?")
    return found


def _row(one: dict[str, Any]) -> list[str]:
    events = ", ".join(map(str, one.get("events") or ()))
    return [str(one.get("name")), str(one.get("waiting")), str(one.get("dead")), events]


def _dead_row(one: dict[str, Any]) -> list[str]:
    id, webhook, event, attempts, why = (
        str(one.get(name)) for name in ("id", "webhook", "event", "attempts", "why")
    )
    return [id, webhook, event, write_time(float(one.get("at") or 0)), attempts, why]
