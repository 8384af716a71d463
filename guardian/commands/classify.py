"""`guardian classify`: what one reply of a facilitator means, read from stdin."""

import sys
from typing import Annotated

import typer

from guardian.commands.output import print_json, print_lines
from guardian.errors import GuardianError

MAX_BYTES = 1024 * 1024  # what the guardian itself takes of a reply

Status = Annotated[int, typer.Option(min=100, max=599, help="HTTP status of the reply.")]


def classify(
    operation: Annotated[str, typer.Option(help="What was asked: settle or verify.")],
    status: Status = 200,
    profile: Annotated[str | None, typer.Option(help="The facilitator's dialect, where it has one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Classify a facilitator's reply; its body comes on stdin."""
    from guardian.settlement.classify import Operation, classify_reply

    if operation not in tuple(Operation):
        raise GuardianError(f"--operation: {operation[:40]!r} is not known; use settle or verify")
    verdict = classify_reply(Operation(operation), status, _body(), profile=profile)
    fields = {
        "class": str(verdict.outcome),
        "rule": verdict.rule,
        "reason": verdict.reason,
        "message": verdict.message,
        "health": str(verdict.health),
        "transaction": verdict.transaction,
        "cure": verdict.cure,
    }
    if as_json:
        print_json(fields)
    else:
        print_lines(*(f"{name + ':':<13}{value}" for name, value in fields.items() if value))


def _body() -> bytes:
    body = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise GuardianError("stdin: the reply is larger than 1 MiB; the guardian takes no more of one either")
    return body
