"""`guardian orphans show --evidence` and `guardian evidence verify` as an operator meets them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardian.cli import main
from guardian.settlement.attempts import Attempt
from guardian.settlement.states import Answer, Money
from guardian.store.protocol import Store
from tests.edge.edge_stage import Stage
from tests.store.conftest import run_on, settlement

KEY = "eip155:8453/0xusdc/0xpayer/1"
ID = "pay_" + hashlib.sha256(KEY.encode()).hexdigest()[:32]
HEARD = Attempt(1_000.0, "main", 502, "settlement: rule", "bad gateway", 11, "ab" * 32)


def orphan(**changes: Any) -> Any:
    facts = {
        "money": Money.CONFIRMED_LATE,
        "answer": Answer.REFUSED,
        "attempts": (HEARD,),
        "attempts_made": 1,
    }
    return settlement(id=ID, **(facts | changes))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", "127.0.0.1:9")
    url = f"sqlite:///{tmp_path}/one.db"

    async def script(opened: Store) -> None:
        await opened.claim(orphan())

    run_on(url, script)
    return url


@pytest.mark.parametrize("named", [ID, KEY])
def test_a_bundle_is_printed_and_verifies(
    store: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["orphans", "show", named, "--evidence", "--store", store]) == 0
    printed = capsys.readouterr().out
    bundle = json.loads(printed)
    assert (bundle["payment"]["key"], bundle["attempts"][0]["body"]["excerpt"]) == (KEY, "bad gateway")
    file = tmp_path / "bundle.json"
    file.write_text(printed)
    assert main(["evidence", "verify", str(file)]) == 0
    assert "WRONG" not in capsys.readouterr().out
    file.write_text(printed.replace("bad gateway", "all is well"))
    assert main(["evidence", "verify", str(file)]) == 1
    assert "WRONG sha256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"), [("", "no JSON object"), ("[]", "no JSON object"), ("{}", "no evidence bundle")]
)
def test_what_is_no_bundle_is_said_in_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(text)
    assert main(["evidence", "verify", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_payment_has_no_evidence(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orphans", "show", "pay_none", "--evidence", "--store", store]) == 2
    assert "no settlement" in capsys.readouterr().err


def test_a_bundle_without_a_transaction_cannot_be_looked_up(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["orphans", "show", ID, "--evidence", "--store", store])
    file = tmp_path / "bundle.json"
    file.write_text(capsys.readouterr().out)
    assert main(["evidence", "verify", str(file), "--rpc", "http://127.0.0.1:9"]) == 2
    assert "names no transaction" in capsys.readouterr().err


def test_the_operations_port_gives_the_same() -> None:
    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        await stage.store.claim(orphan())
        bundle = (await http.get(f"/api/orphans/{ID}/evidence")).json()
        assert (bundle["payment"]["id"], bundle["attempts_made"]) == (ID, 1)
        assert (await http.get("/api/orphans/pay_none/evidence")).status_code == 404
        assert "attempts" not in (await http.get(f"/api/settlements/{ID}")).json()

    Stage().play_operations(script)
