"""How commands print: tables for people, tab-separated lines for pipes, JSON for programs.

What a facilitator or caller wrote reaches the terminal through here only, without control characters.
"""

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

LEAST_TEXT: Final = 24  # columns that a text of several words gets, however narrow the terminal
_LONG_HEX: Final = re.compile(r"0x[0-9a-fA-F]{40,}")


def print_json(content: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=True) + "\n")


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    sys.stdout.write("".join(clean(line) + "\n" for line in lines))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, short: Sequence[str] = ()) -> None:
    """A table on a terminal; elsewhere one tab-separated line a row, nothing cut.

    A word is never broken on a terminal, because ids are copied from there: where the table is too wide its
    lines are longer than the screen. short: the columns whose addresses and hashes are shortened there.
    """
    rows = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print_lines(*("\t".join(row) for row in [head, *rows]))
        return
    at = [number for number, name in enumerate(head) if name in short]
    rows = [[_shortened(cell) if number in at else cell for number, cell in enumerate(row)] for row in rows]
    table, least = Table(box=None, pad_edge=False, header_style="bold"), 0
    for name, *cells in zip(head, *rows, strict=True):
        words = not any(" " in cell for cell in cells)
        widest = max(map(len, (name, *cells)))
        table.add_column(name, no_wrap=words)
        least += (widest if words else min(widest, LEAST_TEXT)) + 2
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console(width=max(Console().width, least)).print(table)


def _shortened(cell: str) -> str:
    return f"{cell[:6]}…{cell[-4:]}" if _LONG_HEX.fullmatch(cell) else cell


def print_error(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write("guardian: " + clean(" ".join(message.split())) + "\n")


def write_time(at: float) -> str:
    """Unix seconds as people read them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clean(text: str) -> str:
    """Text that cannot steer a terminal; tabs stay, they are the columns of a line."""
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)
