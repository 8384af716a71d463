"""docs/states.md shows the tables as they are."""

from pathlib import Path

import pytest

from guardian.settlement.diagram import mermaid, with_diagrams
from guardian.settlement.states import ANSWER, MONEY

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = PAGE.read_text()
    assert with_diagrams(page) == page, "run: python -m guardian.settlement.diagram docs/states.md"


@pytest.mark.parametrize(("name", "table"), [("money", MONEY), ("answer", ANSWER)])
def test_a_diagram_has_every_move_and_no_other(name: str, table: dict[str, dict[str, str]]) -> None:
    drawn = set()
    for line in mermaid(name).splitlines()[2:]:
        arrow, _, events = line.strip().partition(": ")
        state, _, target = arrow.partition(" --> ")
        drawn |= {(state, event, target) for event in events.split(", ") if event}
    assert drawn == {
        (str(state), str(event), str(target))
        for state, moves in table.items()
        for event, target in moves.items()
    }


def test_every_state_is_explained() -> None:
    page = PAGE.read_text()
    assert [state for state in (*MONEY, *ANSWER) if f"| `{state}` |" not in page] == []


def test_a_page_without_a_place_for_a_diagram_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the diagram money"):
        with_diagrams("# nothing")
