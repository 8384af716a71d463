"""How commands print: tables for people, tab-separated lines for pipes, JSON for programs.

What a facilitator or caller wrote reaches the terminal through here only, without control characters.
"""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(content: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=True) + "\n")


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    sys.stdout.write("".join(clean(line) + "\n" for line in lines))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one tab-separated line a row, nothing cut."""
    if not sys.stdout.isatty():
        print_lines(*("\t".join(map(clean, row)) for row in [head, *rows]))
        return
    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(clean(cell), overflow="fold") for cell in row))
    Console().print(table)


def print_error(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write("guardian: " + clean(" ".join(message.split())) + "\n")


def clean(text: str) -> str:
    """Text that cannot steer a terminal; tabs stay, they are the columns of a line."""
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)
