"""The commands of `guardian`. Each is a few lines here or a small file in commands/; no decisions.

Whatever goes wrong for a known reason ends as one line on stderr: field, value, cure. Exit codes: 0 done,
1 the answer is no (`policy check`, `store check`, `health`), 2 it could not be done, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from guardian import __version__
from guardian.commands import closing, policy, records, spending
from guardian.commands import store as stores
from guardian.commands.classify import classify
from guardian.commands.diagnosis import diagnosis
from guardian.commands.evidence import evidence
from guardian.commands.health import check_health
from guardian.commands.output import print_error, print_lines
from guardian.commands.webhooks import webhooks
from guardian.errors import GuardianError
from guardian.settings import LISTEN, OPS_LISTEN, STORE, read_settings

CANNOT = 2
INTERRUPTED = 130

# What typer raises for wrong flags and arguments has no public name of its own.
_UsageFault = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="guardian",
    add_completion=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines(f"payment-guardian {__version__}")
        raise typer.Exit


@app.callback()
def guardian(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """A reverse proxy that loses no x402 payment and doubles none."""


@app.command()
def serve(
    policy: Annotated[str | None, typer.Option(help="The policy file. Or GUARDIAN_POLICY.")] = None,
    listen: Annotated[
        str | None, typer.Option(help=f"For callers. Or GUARDIAN_LISTEN. [default: {LISTEN}]")
    ] = None,
    ops_listen: Annotated[
        str | None, typer.Option(help=f"For operators. Or GUARDIAN_OPS_LISTEN. [default: {OPS_LISTEN}]")
    ] = None,
    store: Annotated[str | None, typer.Option(help=f"Or GUARDIAN_STORE. [default: {STORE}]")] = None,
    log_level: Annotated[str | None, typer.Option(help="Or GUARDIAN_LOG_LEVEL. [default: INFO]")] = None,
) -> None:
    """Run the guardian until it is told to stop."""
    settings = read_settings(
        os.environ, policy=policy, listen=listen, ops_listen=ops_listen, store=store, log_level=log_level
    )
    from guardian.serve import run

    run(settings)


@app.command()
def health(
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it may be sent traffic.")] = False,
) -> None:
    """Ask the guardian at GUARDIAN_OPS_LISTEN, else at 127.0.0.1:9402, whether it lives. Exit code 0: yes,
    1: no, 2: nobody answers."""
    well, said = check_health(os.environ, ready=ready)
    print_lines(said)
    raise typer.Exit(0 if well else 1)


@app.command(short_help="Lose a payment without the guardian, keep it with it.")
def demo() -> None:
    """Lose a payment without the guardian, then keep it with the guardian, on a chain of its own."""
    try:
        from guardian.sandbox.demo import main as play
    except ModuleNotFoundError as missing:
        cure = "install payment-guardian[sandbox]"
        raise GuardianError(f"demo: {missing.name} is not installed; {cure}") from missing
    raise typer.Exit(play() or 0)


app.command()(classify)
app.command(short_help="Who costs others money; networks that are unhealthy.")(diagnosis)
app.command(short_help="Payments that are not over, beside the chain.")(closing.reconcile)
app.add_typer(policy.app, name="policy")
app.add_typer(records.settlements, name="settlements")
app.add_typer(records.orphans, name="orphans")
app.add_typer(evidence, name="evidence")
app.add_typer(webhooks, name="webhooks")
app.add_typer(spending.spending, name="spending")
app.add_typer(spending.approvals, name="approvals")
app.add_typer(stores.app, name="store")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. args: without the program's name, default sys.argv."""
    try:
        code = app(list(args) if args is not None else None, prog_name="guardian", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except GuardianError as fault:
        print_error(str(fault))
    except BrokenPipeError:
        _drop_unwritten()  # the reader of our output has gone, e.g. `| head`
    except OSError as fault:
        print_error(f"{fault.filename or 'system'}: {fault.strerror or fault}")
        _drop_unwritten()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as fault:
        if not isinstance(fault, _UsageFault):
            raise
        print_error(_usage_line(fault))
    return CANNOT


def _drop_unwritten() -> None:
    """What stdout does not take is not written: keep the interpreter from complaining of it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_line(fault: Exception) -> str:
    """typer's own message, with the cure it prints on further lines."""
    message = getattr(fault, "format_message", lambda: str(fault))()
    context = getattr(fault, "ctx", None)
    where = getattr(context, "command_path", "guardian")
    return f"{message} Try `{where} --help`."


if __name__ == "__main__":
    sys.exit(main())
