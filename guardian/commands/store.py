"""`guardian store export | import | check`: all records into a file, back again, are they sound?

`export` and `check` only read, so they run beside a guardian that uses the store.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from guardian.commands.output import print_error, print_json, print_lines
from guardian.commands.source import with_store
from guardian.errors import GuardianError, StoreUnavailable
from guardian.settings import STORE, read_store
from guardian.store.ledger import STOP

if TYPE_CHECKING:
    from guardian.store.protocol import Store, Unreadable
    from guardian.store.transfer import Checked, Imported, LeftOut

app = typer.Typer(help="The store as a whole: copy it, move it, check it.")

StoreUrl = Annotated[
    str | None,
    typer.Option(help=f"The store's URL [default: GUARDIAN_STORE, else {STORE}]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

LONGEST_LINE = 16 * 1024 * 1024
"""Far above any record: 200 lines of trail and a body of 1 MB."""

SHOWN = 20


@app.command("export")
def export_records(
    to: Annotated[
        Path | None, typer.Option(help="A file, mode 0600, replaced whole. [default: stdout]")
    ] = None,
    with_bodies: Annotated[
        bool,
        typer.Option(
            "--with-bodies", help="Include the signed requests. They are secrets; a move needs them."
        ),
    ] = False,
    store: StoreUrl = None,
) -> None:
    """Write every record as a line of JSON. What else the store holds (budgets, approvals, the switch of
    spending, events for webhooks) is left out, and named."""
    from guardian.store.transfer import left_out, written

    unreadable: list[Unreadable] = []
    count = -2  # the first line and the last
    besides: LeftOut | None = None

    async def export(opened: "Store") -> None:
        nonlocal count, besides
        async for line in written(opened, bodies=with_bodies, at=time.time(), unreadable=unreadable):
            file.write(line)
            count += 1
        with contextlib.suppress(StoreUnavailable):  # the records are what matters
            besides = await left_out(opened, time.time())

    with _writing(to) as file:
        with_store(read_store(os.environ, store), export, reading=True)
    sys.stderr.write(f"{count} records exported{'' if with_bodies else ', without their signed requests'}\n")
    for line in _besides(besides):
        sys.stderr.write(line + "\n")
    for one in unreadable[:SHOWN]:
        print_error(f"{one.key}: cannot be read, left out: {one.why}")
    if unreadable:
        print_error(f"{len(unreadable)} records could not be read; run `guardian store check`")
        raise typer.Exit(1)


@app.command("import")
def import_records(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `guardian store export` wrote; `-` is stdin.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be.")] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Put exported records into a store of any kind. What is newer there stays. No guardian may run on it."""
    from guardian.store.transfer import NotAnExport, Put, read_into

    with _reading(file) as lines:

        async def read(opened: "Store") -> "Imported":
            return await read_into(opened, _bounded(lines), dry_run=dry_run)

        try:
            done = with_store(read_store(os.environ, store), read, new=True)
        except NotAnExport as fault:
            raise GuardianError(f"{file}: {fault}") from fault
    counts = {put.value: done.counts[put] for put in Put}
    if as_json:
        print_json({"dry_run": dry_run, **counts, "conflicts": done.conflicts, "without_body": done.bodiless})
    else:
        print_lines(*(f"{name + ':':<14}{count}" for name, count in counts.items()))
    if dry_run and not as_json:
        print_lines("nothing was changed: this was a dry run")
    if done.bodiless:
        print_error(
            f"{done.bodiless} open records came without their signed request and cannot be sent again;"
            " export with --with-bodies"
        )
    if done.conflicts:
        print_error(
            f"left as they are, because neither came from the other: {', '.join(done.conflicts[:SHOWN])}"
        )
        raise typer.Exit(1)


@app.command()
def check(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Is every record sound, and do the indexes agree? Exit code 0: yes, 1: no, 2: cannot be said."""
    from guardian.store.transfer import checked

    done = with_store(read_store(os.environ, store), checked, reading=True)
    if as_json:
        print_json(_told(done))
    else:
        print_lines(*_lines(done))
    raise typer.Exit(1 if done.found else 0)


def _told(done: "Checked") -> dict[str, Any]:
    return {
        "sound": not done.found,
        "store": done.condition.kind,
        "schema": done.condition.schema,
        "settings": dict(done.condition.settings),
        "records": done.records,
        "open": done.open,
        "orphans": done.orphans,
        "money": dict(sorted(done.money.items())),
        "faults_found": done.found,
        "faults": done.faults,
        "doubts": list(done.condition.doubts),
    }


def _lines(done: "Checked") -> Iterator[str]:
    condition = done.condition
    settings = ", ".join(f"{name} {value or 'not to be seen'}" for name, value in condition.settings.items())
    yield f"{condition.kind}, schema {condition.schema}; {settings}"
    yield f"{done.records} records: {done.open} open, {done.orphans} orphans"
    yield from (f"  {name:<16}{count}" for name, count in sorted(done.money.items()))
    yield from (f"doubt: {doubt}" for doubt in condition.doubts)
    yield from (f"fault: {fault}" for fault in done.faults)
    yield f"{done.found} faults" if done.found else "sound"


def _besides(found: "LeftOut | None") -> Iterator[str]:
    """What a move of the store would lose besides."""
    if found is None:
        return
    stopped = STOP in found.papers
    counts = {
        "budgets of spending": found.budgets,
        "approvals": len(found.papers) - stopped,
        "events for webhooks": found.events,
    }
    if told := ", ".join(f"{count} {name}" for name, count in counts.items() if count):
        yield f"left out: {told}"
    if stopped:
        yield "left out: all spending is stopped here; where this is imported, guardian spending stop again"


@contextlib.contextmanager
def _writing(to: Path | None) -> Iterator[IO[bytes]]:
    """A file that is there whole or not at all, for its owner alone."""
    if to is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not to.parent.is_dir():
        raise GuardianError(f"--to: there is no directory {to.parent}; make it, or name another file")
    if to.is_dir():
        raise GuardianError(f"--to: {to} is a directory; name a file in it")
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, to)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
    else:
        with file.open("rb") as lines:
            yield lines


def _bounded(lines: IO[bytes]) -> Iterator[bytes]:
    while line := lines.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise GuardianError("a line is too long for a record; is it an export of the guardian?")
        yield line
