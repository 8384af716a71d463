"""`guardian policy check | explain | diff | schema`. Exit codes of each stand in its docstring."""

from dataclasses import asdict
from typing import Annotated

import typer

from guardian.commands.networks import read_network
from guardian.commands.output import print_error, print_json, print_lines, print_table
from guardian.errors import GuardianError, PolicyError
from guardian.policy.cases import Miss, run_cases
from guardian.policy.diff import Side, diff
from guardian.policy.explain import Choice, explain, explain_for, warnings
from guardian.policy.load import read_policy
from guardian.policy.model import Policy
from guardian.policy.places import Places
from guardian.policy.profile import Profile
from guardian.policy.reference import reference
from guardian.policy.schema import json_schema
from guardian.policy.section import yaml_key
from guardian.policy.types import nearest

app = typer.Typer(help="Check, explain and compare policy files.")

File = Annotated[str, typer.Argument(metavar="FILE", help="The policy file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Network = Annotated[str | None, typer.Option("--network", help="What holds there: a CAIP-2 id or a v1 name.")]
FacilitatorName = Annotated[str | None, typer.Option("--facilitator", help="What holds at this facilitator.")]
Route = Annotated[str | None, typer.Option("--route", help="What holds on this route.")]


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Tell whether a policy can be used, and run its tests.

    Exit code 0: it can, and its tests hold. 1: it cannot, and the first fault is shown with its place, or
    a test does not hold.
    """
    try:
        policy, tree = read_policy(file)
    except PolicyError as fault:
        if as_json:
            place = {"line": fault.line, "column": fault.column}
            print_json({"ok": False, "file": fault.file or file, **place, "message": fault.message})
        else:
            print_error(str(fault))
        raise typer.Exit(1) from fault
    missed, places = run_cases(policy), Places(tree)
    lines = [places.line(("tests", miss.index, "expect", yaml_key(miss.key))) for miss in missed]
    if as_json:
        tests = [
            asdict(miss) | {"key": yaml_key(miss.key), "line": line}
            for miss, line in zip(missed, lines, strict=True)
        ]
        told = {"ok": not missed, "file": file, "warnings": warnings(policy)}
        print_json(told | {"tests": len(policy.tests), "failed": tests})
    else:
        _print_check(file, policy, list(zip(missed, lines, strict=True)))
    if missed:
        raise typer.Exit(1)


def _print_check(file: str, policy: Policy, missed: list[tuple[Miss, int]]) -> None:
    failed = len({miss.index for miss, _ in missed})
    count = len(policy.tests)
    tests = f", {count} test{'s hold' if count > 1 else ' holds'}" if count else ""
    if not missed:
        print_lines(f"{file}: sound{tests}")
    print_lines(*(f"warning: {warning}" for warning in warnings(policy)))
    for miss, line in missed:
        what = f"test {miss.name!r}: {yaml_key(miss.key)}"
        print_error(f"{file}:{line}: {what}: expected {miss.expected}, found {miss.found}")
    if missed:
        print_error(f"{file}: {failed} of {len(policy.tests)} tests do not hold")


@app.command("explain")
def explain_(
    file: File,
    network: Network = None,
    facilitator: FacilitatorName = None,
    route: Route = None,
    as_json: AsJson = False,
) -> None:
    """Show every value in force, and the line it came from; with --network, --facilitator or --route, what
    holds for that combination once all layers are laid over each other."""
    policy, tree = read_policy(file)
    if network is None and facilitator is None and route is None:
        lines = explain(policy, tree)
    else:
        choice = Choice(
            read_network(network) if network is not None else "",
            _known("--facilitator", facilitator, [one.name for one in policy.facilitators]),
            _known("--route", route, [one.name for one in policy.routes]),
        )
        lines = explain_for(policy, tree, choice)
    if as_json:
        print_json([{"path": line.path, "value": line.value, "origin": line.origin} for line in lines])
    else:
        print_table(("KEY", "VALUE", "FROM"), [(line.path, line.value, line.origin) for line in lines])


@app.command("diff")
def diff_(
    before: Annotated[str, typer.Argument(metavar="A", help="The policy file before.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The policy file after.")],
    as_json: AsJson = False,
) -> None:
    """Say what changes for whom from policy A to policy B.

    Exit code 0: both mean the same. 1: they differ. 2: one of them cannot be used.
    """
    sides = [Side(policy, Places(tree)) for policy, tree in (read_policy(before), read_policy(after))]
    changes = diff(sides[0], sides[1])
    if as_json:
        print_json([asdict(change) | {"text": str(change)} for change in changes])
    else:
        print_lines(*map(str, changes))
    if changes:
        raise typer.Exit(1)


@app.command()
def schema(
    profile: Annotated[bool, typer.Option("--profile", help="Of facilitator profiles.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The key-by-key reference instead.")] = False,
) -> None:
    """Print the JSON Schema of policy files, for editors."""
    model = Profile if profile else Policy
    if markdown:
        print_lines(*reference(model))
    else:
        print_json(json_schema(model))


def _known(option: str, name: str | None, known: list[str]) -> str:
    if name is not None and name not in known:
        kind = option.removeprefix("--")
        raise GuardianError(f"{option}: the policy has no {kind} {name[:60]!r}; {nearest(name, known)}")
    return name or ""
