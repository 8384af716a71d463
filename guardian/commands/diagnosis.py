"""`guardian diagnosis`: buyers that loop, sellers that charge and refuse, successes that moved nothing."""

from typing import Any

from guardian.commands.output import print_json, print_lines, print_table, write_time
from guardian.commands.records import AsJson, Ops
from guardian.commands.source import Records
from guardian.errors import GuardianError

_HEAD = ("KIND", "WHO", "COUNT", "LAST", "SETTLEMENT", "MEANING")


def diagnosis(ops: Ops = None, as_json: AsJson = False) -> None:
    """Show who costs others money, and which networks are unhealthy. Asks the running guardian."""
    answer = Records(ops).asked("/api/diagnosis")
    if not isinstance(answer, dict) or not isinstance(answer.get("found"), list):
        raise GuardianError("--ops: what answers there knows no diagnosis; is it the guardian's?")
    if as_json:
        print_json(answer)
        return
    if found := answer["found"]:
        print_table(_HEAD, [_row(one) for one in found])
    else:
        print_lines("nothing found")
    print_lines(f"counted since {write_time(answer.get('since') or 0)} by {answer.get('replica')}")
    unwell = [one for one in answer.get("networks") or () if not one.get("healthy")]
    print_lines(*(f"unhealthy: {one.get('network')}: {one.get('why')}" for one in unwell))


def _row(one: dict[str, Any]) -> list[str]:
    who = one.get("host") or one.get("facilitator") or "-"
    last = write_time(one.get("last_at") or 0)
    settlement = one.get("last_settlement") or "-"
    return [str(one.get("kind")), who, str(one.get("count")), last, settlement, str(one.get("means"))]
