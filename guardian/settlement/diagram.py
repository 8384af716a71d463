"""The state tables as mermaid diagrams, for docs/states.md. Pure; `python -m guardian.settlement.diagram`.

python -m guardian.settlement.diagram docs/states.md        # writes the diagrams between their markers
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from guardian.settlement.states import ANSWER, MONEY, Answer, Money

DIAGRAMS = ("money", "answer")
State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def mermaid(name: str) -> str:
    """The diagram of one table, `money` or `answer`."""
    if name == "money":
        return _drawn(MONEY, Money.IDLE)
    return _drawn(ANSWER, Answer.NONE)


def _drawn(table: Mapping[State, Mapping[Event, State]], first: State) -> str:
    """One arrow for each pair of states, with all its events; a state without a way out ends."""
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    for state, moves in table.items():
        for target in dict.fromkeys(moves.values()):
            events = ", ".join(event for event, to in moves.items() if to is target)
            lines.append(f"    {state} --> {target}: {events}")
        if not moves:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


def with_diagrams(page: str) -> str:
    """The page with each diagram renewed between its markers; raises ValueError where one is missing."""
    for name in DIAGRAMS:
        begin, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no place for the diagram {name}: {begin.strip()} … {end}")
        page = f"{before}{begin}```mermaid\n{mermaid(name)}\n```\n{end}{after}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_diagrams(path.read_text()))
