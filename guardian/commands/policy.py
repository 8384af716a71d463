"""`guardian policy check | explain | schema`."""

from typing import Annotated

import typer

from guardian.commands.output import print_error, print_json, print_lines, print_table
from guardian.errors import PolicyError
from guardian.policy.explain import explain, json_schema, warnings
from guardian.policy.load import load_policy, read_text, validate
from guardian.policy.tree import read_tree

app = typer.Typer(help="Check and explain policy files.")

File = Annotated[str, typer.Argument(metavar="FILE", help="The policy file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Tell whether a policy can be used: exit code 0, or 1 and the first fault with its place."""
    try:
        policy = load_policy(file)
    except PolicyError as fault:
        if as_json:
            print_json(_fault(file, fault))
        else:
            print_error(str(fault))
        raise typer.Exit(1) from fault
    if as_json:
        print_json({"ok": True, "file": file, "warnings": warnings(policy)})
    else:
        print_lines(f"{file}: sound", *(f"warning: {warning}" for warning in warnings(policy)))


def _fault(file: str, fault: PolicyError) -> dict[str, object]:
    place = {"line": fault.line, "column": fault.column}
    return {"ok": False, "file": fault.file or file, **place, "message": fault.message}


@app.command("explain")
def explain_(file: File, as_json: AsJson = False) -> None:
    """Show every value in force, and where it came from."""
    tree = read_tree(read_text(file), file)
    lines = explain(validate(tree), tree)
    if as_json:
        print_json([{"path": line.path, "value": line.value, "origin": line.origin} for line in lines])
    else:
        print_table(("KEY", "VALUE", "FROM"), [(line.path, line.value, line.origin) for line in lines])


@app.command()
def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    print_json(json_schema())
