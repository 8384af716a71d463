"""The commands as a person or a script meets them: what is printed, and the exit code."""

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from guardian import __version__
from guardian.cli import main
from guardian.commands.output import print_table
from guardian.settlement.record import Settlement
from guardian.settlement.states import Answer, Money
from guardian.store.open import open_store
from guardian.wire.names import Address, Network, Nonce

POLICY = "version: 1\nfacilitators:\n  - name: main\n    url: http://127.0.0.1:18402\n"
NOBODY = "127.0.0.1:1"
ID = "pay_" + "a" * 32
TO = "0x" + "ab" * 20


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POLICY", "LISTEN", "STORE", "LOG_LEVEL"):
        monkeypatch.delenv(f"GUARDIAN_{name}", raising=False)
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", NOBODY)


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """A store with one orphan."""
    record = Settlement(
        key="eip155:8453/0xa/0xb/0x1",
        id=ID,
        money=Money.CONFIRMED_LATE,
        answer=Answer.REFUSED,
        x402_version=2,
        scheme="exact",
        method="eip3009",
        network=Network("eip155:8453"),
        network_as_sent="base",
        asset=Address("0xa"),
        payer=Address("0xb"),
        pay_to=Address("0xc"),
        amount=10**20,
        nonce=Nonce("0x1"),
        message="boo\x1b[31m",
        signature_hash="5ec2e7",
        created_at=1.0,
        updated_at=2.0,
        body=b"SIGNED-BODY",
    )
    url = f"sqlite:///{tmp_path}/records.db"

    async def write() -> None:
        store = open_store(url)
        await store.open()
        await store.claim(record)
        await store.close()

    asyncio.run(write())
    return url


class Operations(BaseHTTPRequestHandler):
    """A running guardian's operations API, as far as the commands ask it."""

    asked: list[str] = []  # noqa: RUF012
    told: list[bytes] = []  # noqa: RUF012
    reply: tuple[int, bytes] = (200, b"{}")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/json"
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Operations]]:
    Operations.asked, Operations.told = [], []
    with HTTPServer(("127.0.0.1", 0), Operations) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("GUARDIAN_OPS_LISTEN", f"127.0.0.1:{server.server_port}")
        yield Operations
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "args",
    [
        "",
        "polcy",
        "policy",
        "policy check",
        "policy explain none.yaml",
        "serve",
        "serve --policy none.yaml",
        "serve --policy p --listen 99",
        "serve --policy p --store mysql://x",
        "classify --operation pay",
        "classify --operation settle --status 9",
        "classify --operation settle --network mars",
        "settlements list --limit 0",
        "settlements list --money gone",
        "settlements show x",
        "settlements list --ops nowhere",
        "settlements list --ops http://h:x",
        "settlements list --ops http://127.0.0.1:1",
        "orphans list --store memory://",
        "orphans list --store nonsense",
        "settlements list --store sqlite:///none.db",
        "serve --nonsense",
        "orphans show pay_none --store sqlite:///none.db",
        "orphans refund x --transaction 0x1",
        "orphans refund x --transaction 0x1 --by ann --store sqlite:///none.db",
        "orphans write-off x --by ann",
        "reconcile",
        "reconcile --take-up",
        "reconcile --network mars",
        "diagnosis",
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("guardian: ")
    assert err.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"payment-guardian {__version__}\n"


def test_a_sound_policy_is_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(POLICY + "networks: {eip155:10: {}}")
    assert main(["policy", "check", "p.yaml"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "p.yaml: sound"
    assert out[1].startswith("warning: networks.eip155:10: ")


def test_an_unsound_policy_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(POLICY + "settel: {}\n")
    assert main(["policy", "check", "p.yaml"]) == 1
    assert capsys.readouterr().err == "guardian: p.yaml:5:1: settel: unknown key; did you mean settle?\n"
    assert main(["policy", "check", "p.yaml", "--json"]) == 1
    fault = json.loads(capsys.readouterr().out)
    assert (fault["ok"], fault["line"], fault["column"]) == (False, 5, 1)


TESTS = """\
tests:
  - name: sent is in doubt
    given: {operation: settle, transport: timeout}
    expect: {class: settlement}
  - name: wrong
    given: {operation: settle, transport: timeout}
    expect:
      class: transient
"""


def test_a_policy_whose_tests_do_not_hold_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY + TESTS)
    assert main(["policy", "check", "p.yaml"]) == 1
    out, err = capsys.readouterr()
    assert "sound" not in out
    assert err.splitlines() == [
        "guardian: p.yaml:12: test 'wrong': class: expected transient, found settlement",
        "guardian: p.yaml: 1 of 2 tests do not hold",
    ]
    assert main(["policy", "check", "p.yaml", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["tests"], told["failed"][0]["line"]) == (False, 2, 12)


def test_explain_tells_what_holds_for_one_combination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text(
        POLICY + "    settle: {hold: 3s}\nnetworks: {base: {confirmations: 2}}\n"
    )
    assert main(["policy", "explain", "p.yaml", "--network", "base", "--facilitator", "main"]) == 0
    out = capsys.readouterr().out
    assert "settle.hold\t3s\tp.yaml:5\n" in out
    assert "confirmations\t2\tp.yaml:6\n" in out
    assert "settlement_timeout\t60s\tshipped for eip155:8453\n" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--network baes", "did you mean base?"),
        ("--network eip155:x", "is not a network"),
        ("--facilitator mian", "did you mean main?"),
        ("--route weather", "the policy has no route 'weather'; none is known here"),
    ],
)
def test_explain_knows_no_names_that_the_policy_does_not(
    flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    assert main(["policy", "explain", "p.yaml", *flags.split()]) == 2
    assert said in capsys.readouterr().err


def test_diff_is_exit_code_0_when_nothing_changes_and_1_when_something_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(POLICY)
    (tmp_path / "b.yaml").write_text(POLICY + "settle: {hold: 20s}\n")
    assert main(["policy", "diff", "a.yaml", "a.yaml"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["policy", "diff", "a.yaml", "b.yaml"]) == 1
    assert capsys.readouterr().out == "settle.hold: 25s → 20s (line 5)\n"
    assert main(["policy", "diff", "a.yaml", "b.yaml", "--json"]) == 1
    [change] = json.loads(capsys.readouterr().out)
    assert (change["what"], change["before"], change["after"]) == ("settle.hold", "25s", "20s")
    assert main(["policy", "diff", "a.yaml", "none.yaml"]) == 2


def test_explain_is_tab_separated_where_nobody_watches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    assert main(["policy", "explain", "p.yaml"]) == 0
    assert "facilitators[0].url\thttp://127.0.0.1:18402\tp.yaml:4\n" in capsys.readouterr().out


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    assert "facilitators" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    ("operation", "body", "outcome"),
    [
        ("settle", b'{"success":false,"errorReason":"insufficient_funds"}', "permanent"),
        ("settle", b"<html>", "settlement"),
        ("settle", b"", "settlement"),
        ("verify", b'{"isValid":true,"payer":"0xb"}', "success"),
    ],
)
def test_a_reply_is_classified(
    operation: str,
    body: bytes,
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    assert main(["classify", "--operation", operation, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["class"] == outcome
    assert verdict["rule"]


def test_records_come_from_the_file_where_no_guardian_runs(
    stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["orphans", "list", "--store", stored, "--json"]) == 0
    [record] = json.loads(capsys.readouterr().out)
    assert (record["id"], record["amount"], record["orphan"]) == (ID, str(10**20), True)
    assert not {"body", "signature", "signature_hash"} & set(record)


@pytest.mark.parametrize("command", ["orphans", "settlements"])
def test_a_list_that_ends_at_its_limit_says_that_there_may_be_more(
    command: str, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "list", "--store", stored, "--limit", "1", "--json"]) == 0
    told = capsys.readouterr()
    assert (len(json.loads(told.out)), "--limit" in told.err) == (1, True)
    assert main([command, "list", "--store", stored, "--limit", "2"]) == 0
    assert capsys.readouterr().err == ""


def test_a_host_that_nobody_knows_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnosis", "--ops", "http://guardian.invalid:9402"]) == 2
    said = capsys.readouterr().err
    assert "gives no answer (" in said
    assert "gaierror" not in said


def test_on_a_narrow_terminal_ids_stay_whole_and_a_pipe_gets_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    head, row = ("ID", "WHY", "PAYER", "PAYEE"), (ID, "no node of it answers, nor will one", TO, TO)
    print_table(head, [row], short=("PAYER",))
    assert capsys.readouterr().out == "\t".join(head) + "\n" + "\t".join(row) + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(head, [row], short=("PAYER",))
    _, first, second = capsys.readouterr().out.splitlines()
    assert [word in first.split() for word in (ID, "0xabab…abab", TO)] == [True, True, True]
    assert second.split()[-1] == "one"


def test_where_no_guardian_runs_and_no_store_is_here_both_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["settlements", "list"]) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in (NOBODY, "guardian.db", "--ops", "--store"))


def test_a_record_is_shown_without_its_body_and_without_steering_the_terminal(
    stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settlements", "show", ID, "--store", stored]) == 0
    out = capsys.readouterr().out
    assert "confirmed_late" in out
    assert not any(secret in out for secret in ("SIGNED-BODY", "5ec2e7", "\x1b"))


def test_an_unknown_record_is_exit_code_2(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settlements", "show", "pay_none", "--store", stored]) == 2
    assert "there is no settlement 'pay_none'" in capsys.readouterr().err


def test_the_running_guardian_is_asked_first(
    operations: type[Operations],
    stored: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GUARDIAN_STORE", stored)
    operations.reply = (200, b'{"settlements":[{"id":"pay_1","money":"polling","body":"SIGNED"}]}')
    assert main(["settlements", "list", "--money", "polling", "--limit", "7"]) == 0
    assert operations.asked == ["/api/settlements?limit=7&money=polling"]
    out = capsys.readouterr().out
    assert "pay_1\tpolling\t-" in out
    assert "SIGNED" not in out


@pytest.mark.parametrize(
    "reply",
    [
        (200, b"<html>"),
        (500, b'{"error":"broken"}'),
        (200, b"[" * 10_000),
        (200, b'{"a":1}'),
        (200, b"7"),
        (404, b"{}"),
    ],
)
def test_an_operations_api_that_talks_nonsense_is_one_line(
    operations: type[Operations], reply: tuple[int, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = reply
    assert main(["orphans", "list"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_store_that_is_named_is_read_itself_though_another_guardian_listens(
    operations: type[Operations], stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (200, b'{"settlements":[]}')

    async def held() -> int:
        store = open_store(stored)
        await store.open()
        code = await asyncio.to_thread(main, ["orphans", "list", "--store", stored, "--json"])
        await store.close()
        return code

    assert asyncio.run(held()) == 0
    assert [record["id"] for record in json.loads(capsys.readouterr().out)] == [ID]
    assert operations.asked == []


def test_an_orphan_of_a_named_store_is_closed_though_another_guardian_does_not_know_it(
    operations: type[Operations], stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (404, b'{"error":"no settlement"}')
    args = ["orphans", "write-off", ID, "--reason", "a test", "--by", "ann", "--store", stored]
    assert main(args) == 0
    assert operations.asked == [f"/api/orphans/{ID}/write-off"]
    assert capsys.readouterr().out == f"{ID}: written_off by ann: a test\n"


CLOSED = (
    b'{"id":"pay_1","orphan":false,"closed_by":"ann","events":[{"name":"refunded","note":"by ann: 0xab"}]}'
)


def test_the_running_guardian_is_told_of_a_refund(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (200, CLOSED)
    assert main(["orphans", "refund", "pay_1", "--transaction", "0xab", "--by", "ann"]) == 0
    assert operations.asked == ["/api/orphans/pay_1/refund"]
    told = {"transaction": "0xab", "by": "ann", "note": "", "unverified": False}
    assert json.loads(operations.told[0]) == told
    assert capsys.readouterr().out == "pay_1: refunded by ann: 0xab\n"


DIAGNOSIS = {
    "replica": "here-1",
    "since": 0,
    "found": [
        {
            "kind": "charged_on_4xx",
            "means": "paid and refused",
            "host": "shop",
            "facilitator": "",
            "count": 3,
            "last_at": 60,
            "last_settlement": "pay_1",
        }
    ],
    "networks": [
        {"network": "eip155:8453", "healthy": False, "why": "no node answers"},
        {"network": "eip155:137", "healthy": True, "why": ""},
    ],
}


def test_the_diagnosis_is_one_line_for_each_finding(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (200, json.dumps(DIAGNOSIS).encode())
    assert main(["diagnosis"]) == 0
    assert operations.asked == ["/api/diagnosis"]
    head, row, since, unwell = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:3] == ["KIND", "WHO", "COUNT"]
    cells = ["charged_on_4xx", "shop", "3", "1970-01-01T00:01:00Z", "pay_1", "paid and refused"]
    assert row.split("\t") == cells
    assert since == "counted since 1970-01-01T00:00:00Z by here-1"
    assert unwell == "unhealthy: eip155:8453: no node answers"


def test_a_diagnosis_that_found_nothing_says_so(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (200, json.dumps(DIAGNOSIS | {"found": [], "networks": []}).encode())
    assert main(["diagnosis"]) == 0
    assert capsys.readouterr().out.startswith("nothing found\n")
    operations.reply = (200, b"[]")
    assert main(["diagnosis"]) == 2


def test_a_refund_that_is_refused_says_why(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (409, b'{"error":"transaction: that transaction has failed on chain"}')
    assert main(["orphans", "refund", "pay_1", "--transaction", "0xab", "--by", "ann"]) == 2
    assert capsys.readouterr().err == "guardian: transaction: that transaction has failed on chain\n"
    operations.reply = (404, b'{"error":"no settlement"}')
    assert main(["orphans", "write-off", "pay_1", "--reason", "x", "--by", "ann"]) == 2
    assert "there is no settlement 'pay_1'" in capsys.readouterr().err


def test_where_no_guardian_runs_an_orphan_is_closed_in_the_store(
    stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["orphans", "show", ID, "--store", stored]) == 0
    capsys.readouterr()
    hash = "0x" + "cd" * 32
    args = ["orphans", "refund", ID, "--transaction", hash, "--by", "ann", "--store", stored]
    assert main(args) == 0
    assert capsys.readouterr().out == f"{ID}: refunded by ann: {hash} (not checked against the chain)\n"
    assert main(args) == 2
    assert "closed before, by ann" in capsys.readouterr().err
    assert main(["orphans", "list", "--store", stored, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["orphans", "show", ID, "--store", stored]) == 0
    assert f"refund_transaction: {hash}\n" in capsys.readouterr().out


def test_an_orphan_is_written_off_with_a_reason(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["orphans", "write-off", ID, "--reason", "a test", "--by", "ann", "--store", stored]
    assert main(args) == 0
    assert capsys.readouterr().out == f"{ID}: written_off by ann: a test\n"


def test_what_is_no_orphan_is_not_shown_as_one(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    operations.reply = (200, b'{"id":"pay_1","money":"failed","answer":"refused","orphan":false}')
    assert main(["orphans", "show", "pay_1"]) == 2
    assert "is no orphan: money failed, answer refused" in capsys.readouterr().err


def test_reconcile_prints_what_is_not_over(
    operations: type[Operations], capsys: pytest.CaptureFixture[str]
) -> None:
    found = b'{"standing":[{"id":"pay_1","money":"polling","chain":"nonce unused","then":"waits"}]}'
    operations.reply = (200, found)
    assert main(["reconcile", "--network", "base"]) == 0
    assert operations.asked == ["/api/reconcile?network=eip155%3A8453"]
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "pay_1\tpolling\t-\t-\t-\t-\t-\tnonce unused\twaits"
    assert out[2] == "1 payments are not over"
    assert main(["reconcile", "--take-up", "--json"]) == 0
    assert operations.told == [b"{}"]
    assert json.loads(capsys.readouterr().out)[0]["id"] == "pay_1"
    operations.reply = (200, b'{"standing":[]}')
    assert main(["reconcile"]) == 0
    assert "nothing is open" in capsys.readouterr().out


def test_the_module_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "guardian.cli", "policy", "check", str(tmp_path / "p.yaml")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def begun(shell: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command of the shell, in which GUARDIAN is the command as it is installed."""
    command = shell.replace("GUARDIAN", f"{sys.executable} -m guardian")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        ["sh", "-c", command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_closed_streams_and_a_full_disk_end_without_a_traceback(tmp_path: Path) -> None:
    closed = begun("GUARDIAN policy schema >&-; GUARDIAN classify --operation settle <&-", tmp_path)
    assert (closed.returncode, closed.stderr) == (0, "")
    if Path("/dev/full").exists():
        full = begun("GUARDIAN policy schema >/dev/full", tmp_path)
        assert (full.returncode, full.stderr) == (2, "guardian: system: No space left on device\n")


def test_ctrl_c_while_the_command_is_still_loading_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    path = f"PYTHONPATH={tmp_path}:{Path(__file__).parents[1]}"
    ended = begun(f"{path} GUARDIAN --version", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
