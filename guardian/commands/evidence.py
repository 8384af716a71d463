"""`guardian evidence verify`: whether a bundle is as it was made, and whether the chain bears it out."""

import asyncio
import json
from typing import Annotated

import typer

from guardian.commands.output import print_lines
from guardian.errors import ChainUnavailable, GuardianError

MAX_BYTES = 16 * 1024 * 1024
"""A bundle has some 30 kB."""

evidence = typer.Typer(help="Bundles that `guardian orphans show ID --evidence` prints.")


@evidence.callback()
def _bundles() -> None:
    """A group of commands, though there is one so far."""


@evidence.command()
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The bundle.")],
    rpc: Annotated[str | None, typer.Option(help="A node of the payment's network, to ask as well.")] = None,
) -> None:
    """Recompute the hashes of a bundle and judge what it holds. Exit code 1 where something is wrong."""
    from guardian.flow.evidence_check import check_bundle, check_on_chain

    if rpc is not None and not rpc.startswith(("http://", "https://", "ws://", "wss://")):
        raise GuardianError("--rpc: the URL has no scheme; begin it with http://, https://, ws:// or wss://")
    bundle = _read(file)
    findings = check_bundle(bundle)
    if rpc is not None and all(holds for holds, _ in findings):
        try:
            findings.append(asyncio.run(check_on_chain(bundle, rpc)))
        except ChainUnavailable as fault:
            raise GuardianError(f"--rpc: {fault}") from fault
    print_lines(*(f"{'ok   ' if holds else 'WRONG'} {said}" for holds, said in findings))
    raise typer.Exit(0 if all(holds for holds, _ in findings) else 1)


def _read(file: str) -> dict[str, object]:
    with open(file, "rb") as stream:
        text = stream.read(MAX_BYTES + 1)
    try:
        found = json.loads(text) if len(text) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        cure = "is it what `guardian orphans show ID --evidence` printed?"
        raise GuardianError(f"{file}: no JSON object; {cure}")
    return found
