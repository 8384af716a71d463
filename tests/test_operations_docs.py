"""What docs/operations.md shows of a console is what an operator sees."""

import os
import re
import shlex
from pathlib import Path

import pytest

from guardian.cli import main
from guardian.settlement.states import Answer, Money
from tests.store.conftest import run_on, settlement

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
BEGIN = 1_795_165_200.0

RECORDS = [
    settlement(
        "7c1e",
        key="eip155:8453/0x83…/0xa1…/0x01…",
        money=Money.CONFIRMED_LATE,
        answer=Answer.REFUSED,
        payer="0xa1…",
        pay_to="0xb2…",
        transaction="0xf00d…",
        watched=True,
        chain_proven=True,
        created_at=BEGIN,
        updated_at=BEGIN + 90,
    ),
    settlement("9d2f", money=Money.POLLING, watched=True, payer="0xa3…", created_at=BEGIN),
]


async def fill(store: object) -> None:
    for record in RECORDS:
        await store.claim(record)  # type: ignore[attr-defined]


def steps(block: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a console."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDIAN_STORE", raising=False)
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", "127.0.0.1:1")
    run_on("sqlite:///guardian.db", fill)


def test_there_are_consoles_to_look_at() -> None:
    assert len(BLOCKS) >= 3
    assert all(steps(block) for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_console_shows_what_the_commands_print(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, shown in steps(block):
        name, *args = shlex.split(command)
        assert name == "guardian"
        assert main(args) == 0, command
        out, err = capsys.readouterr()
        assert _fits(shown, out + err), f"{command} prints{os.linesep}{out}{err}"


def _fits(shown: str, printed: str) -> bool:
    """Word by word, for columns are as wide as the terminal; a word or line of `…` stands for any."""
    wanted, said = shown.splitlines(), printed.splitlines()
    if wanted and wanted[-1] == "…":
        wanted, said = wanted[:-1], said[: len(wanted) - 1]
    return len(wanted) == len(said) and all(
        len(line.split()) == len(other.split())
        and all(word in ("…", found) for word, found in zip(line.split(), other.split(), strict=True))
        for line, other in zip(wanted, said, strict=True)
    )
