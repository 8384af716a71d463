"""`guardian store export | import | check` as an operator meets them, on both kinds of store."""

import asyncio
import io
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardian.cli import main
from guardian.sandbox.node import SandboxError
from guardian.sandbox.redis_server import RedisServer, redis_command
from guardian.settlement.notice import Kind, Notice
from guardian.settlement.record import Settlement, noted
from guardian.settlement.states import Answer, Money
from guardian.store.ledger import FOREVER, Ask, Line, Swap
from guardian.store.open import open_store
from tests.store.conftest import run_on, settlement


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDIAN_STORE", raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        redis_command()
    except SandboxError as missing:
        pytest.skip(str(missing))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/one.db"
    server: RedisServer = request.getfixturevalue("server")
    return f"{server.url}?prefix=p{abs(hash(request.node.name)) % 10**9}"


def of_all_kinds() -> list[Settlement]:
    """One of each pair of states that a payment can have, two of them of one purchase."""
    found = []
    for money in Money:
        for answer in Answer:
            if money in (Money.IDLE, Money.PENDING) and answer is Answer.ACCEPTED:
                continue
            name = f"{money}-{answer}"
            found.append(settlement(name, money=money, answer=answer, payer=name, resource=f"/{name}"))
    twin = settlement("twin", money=Money.UNRESOLVED, payer="unresolved-held", resource="/unresolved-held")
    return [*found, twin]


def fill(url: str, records: list[Settlement]) -> None:
    async def script(store: Any) -> None:
        for record in records:
            claim = await store.claim(record)
            if claim.record != record:
                await store.update(claim.record, record)

    run_on(url, script)


def stored(url: str) -> dict[str, Settlement]:
    found: dict[str, Settlement] = {}

    async def script(store: Any) -> None:
        found.update({record.key: record for record in await store.page(limit=1000)})

    run_on(url, script)
    return found


def export(url: str, *flags: str, to: str = "all.jsonl") -> list[dict[str, Any]]:
    assert main(["store", "export", "--store", url, "--to", to, *flags]) == 0
    return [json.loads(line) for line in Path(to).read_text().splitlines()]


def test_export_is_a_header_a_line_for_each_record_and_their_number(url: str) -> None:
    records = of_all_kinds()
    fill(url, records)
    header, *lines, footer = export(url)
    assert (header["guardian_export"], header["bodies"]) == (1, False)
    assert footer == {"records": len(records)}
    assert {line["key"] for line in lines} == {record.key for record in records}
    assert Path("all.jsonl").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in Path().glob(".all*")] == []


def test_signed_requests_leave_the_store_only_when_asked_for(url: str) -> None:
    record = settlement(body=b"SIGNED")
    fill(url, [record])
    assert "body" not in export(url)[1]
    assert export(url, "--with-bodies")[1]["body"] == "U0lHTkVE"


def test_an_export_says_what_it_leaves_out(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def script(store: Any) -> None:
        line = Line("day", "1", "9", 4e9)
        await store.ledger.hold(Ask("k", "t", 1.0, (line, Line("over", "1", "9", 2.0))))
        await store.ledger.swap(Swap("approval/a", "", "x"), 4e9)
        await store.ledger.swap(Swap("stop", "", "x"), FOREVER)
        facts: dict[str, Any] = {"hook": "ops", "subject": "k", "kind": Kind.FAILED, "at": 1.0, "body": "{}"}
        await store.notices.keep([Notice(id="msg_1", **facts), Notice(id="msg_2", dead=True, **facts)])

    fill(url, [settlement()])
    run_on(url, script)
    assert main(["store", "export", "--store", url, "--to", "all.jsonl"]) == 0
    said = capsys.readouterr().err
    assert "left out: 1 budgets of spending, 1 approvals, 2 events for webhooks\n" in said
    assert "all spending is stopped here" in said


def test_export_goes_to_stdout_where_no_file_is_named(
    url: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    fill(url, [settlement()])
    assert main(["store", "export", "--store", url]) == 0
    out, err = capfdbinary.readouterr()
    assert len(out.splitlines()) == 3
    assert err == b"1 records exported, without their signed requests\n"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_import_makes_the_same_store_of_any_kind_and_again_changes_nothing(
    url: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    records = of_all_kinds()
    fill(url, records)
    export(url, "--with-bodies")
    other = f"sqlite:///{tmp_path}/other.db"
    if kind == "redis":
        other = f"{request.getfixturevalue('server').url}?prefix=other{url[:4]}"
    capsys.readouterr()
    for wanted in ({"created": len(records), "unchanged": 0}, {"created": 0, "unchanged": len(records)}):
        assert main(["store", "import", "all.jsonl", "--store", other, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert {name: told[name] for name in wanted} == wanted
    assert stored(other) == {record.key: record for record in records}
    assert main(["store", "check", "--store", other]) == 0


def test_import_takes_what_has_gone_on_and_leaves_what_is_newer_here(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = settlement("1", payer="1"), settlement("2", payer="2")
    fill(url, [noted(first, "a", now=2.0), second])
    export(url, "--with-bodies")
    here = "sqlite:///here.db"
    older_here, newer_here = first, noted(second, "b", now=2.0)
    fill(here, [older_here, newer_here])
    capsys.readouterr()
    assert main(["store", "import", "all.jsonl", "--store", here, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["updated"], told["newer here"], told["in conflict"]) == (1, 1, 0)
    assert stored(here)[first.key] == noted(first, "a", now=2.0)
    assert stored(here)[second.key] == newer_here


def test_records_of_which_neither_came_from_the_other_are_left_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill("sqlite:///a.db", [noted(noted(settlement(), "a", now=2.0), "a", now=3.0)])
    fill("sqlite:///b.db", [noted(settlement(), "b", now=2.0)])
    export("sqlite:///a.db")
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db"]) == 1
    assert f"neither came from the other: {settlement().id}" in capsys.readouterr().err
    assert stored("sqlite:///b.db")[settlement().key].version == 1


def test_an_import_that_broke_off_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = of_all_kinds()
    fill("sqlite:///a.db", records)
    export("sqlite:///a.db", "--with-bodies")
    twin = msgspec.structs.replace(records[-1], money=Money.IDLE)  # as a claim behind another leaves it
    fill("sqlite:///b.db", [*records[:20], twin])
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db"]) == 0
    assert stored("sqlite:///b.db") == {record.key: record for record in records}


def test_a_dry_run_says_what_would_be_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fill("sqlite:///a.db", [settlement()])
    export("sqlite:///a.db")
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "created:      1\n" in out
    assert "nothing was changed" in out
    assert stored("sqlite:///b.db") == {}


def test_an_import_without_the_signed_requests_says_what_it_costs_and_keeps_those_that_are_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = settlement("1", payer="1")
    fill("sqlite:///a.db", [noted(here, "a", now=2.0), settlement("2", payer="2")])
    fill("sqlite:///b.db", [here])
    export("sqlite:///a.db")
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db"]) == 0
    assert "1 open records came without their signed request" in capsys.readouterr().err
    assert stored("sqlite:///b.db")[here.key].body == here.body


def test_an_export_comes_in_by_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    fill("sqlite:///a.db", [settlement()])
    export("sqlite:///a.db", "--with-bodies")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("all.jsonl").read_bytes())))
    assert main(["store", "import", "-", "--store", "sqlite:///b.db"]) == 0
    assert len(stored("sqlite:///b.db")) == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: lines[:-1], "ends early"),
        (lambda lines: [lines[0], lines[2]], "ends early"),
        (lambda lines: [*lines, lines[1]], "ended before"),
        (lambda lines: lines[1:], "line 1: not an export"),
        (lambda lines: [], "line 1: not an export"),
        (lambda lines: [b'{"guardian_export":9,"bodies":false,"at":1}\n', *lines[1:]], "of format 9"),
        (lambda lines: [lines[0], b"{}\n", *lines[1:]], "line 2: not a record"),
        (lambda lines: [lines[0], b"[" * 10_000 + b"\n", *lines[1:]], "line 2: not a record"),
    ],
)
def test_a_file_that_is_no_whole_export_is_refused(
    spoil: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill("sqlite:///a.db", [settlement()])
    export("sqlite:///a.db")
    lines = Path("all.jsonl").read_bytes().splitlines(keepends=True)
    Path("all.jsonl").write_bytes(b"".join(spoil(lines)))
    capsys.readouterr()
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("guardian: all.jsonl: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_store_that_a_guardian_uses_is_exported_and_checked_but_not_imported_into(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def beside() -> None:
        store = open_store(url)
        await store.open()
        await store.claim(settlement())
        await store.lease("replica/a", "a", 60)
        try:
            await asyncio.to_thread(export, url)
            assert await asyncio.to_thread(main, ["store", "check", "--store", url]) == 0
            assert await asyncio.to_thread(main, ["store", "import", "all.jsonl", "--store", url]) == 2
        finally:
            await store.resign("replica/a", "a")
            await store.close()

    asyncio.run(beside())
    assert "stop" in capsys.readouterr().err


def test_check_counts_what_there_is(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = of_all_kinds()
    fill(url, records)
    assert main(["store", "check", "--store", url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sound"], told["records"], told["orphans"]) == (True, len(records), 6)
    assert told["store"] == url.partition(":")[0]
    assert set(told["money"]) == set(Money)
    assert told["settings"]
    assert main(["store", "check", "--store", url]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith(f"{len(records)} records: ")
    assert out[-1] == "sound"


IMPOSSIBLE = [
    {"money": Money.PENDING, "answer": Answer.ACCEPTED},
    {"money": Money.UNRESOLVED, "paid_by": "x"},
    {"money": Money.POLLING, "chain_proven": True},
    {"money": Money.CONFIRMED, "chain_proven": True},
    {"money": Money.PENDING, "closed_by": "ann"},
    {"money": Money.CONFIRMED, "answer": Answer.REFUSED, "refund_transaction": "0xab"},
]


@pytest.mark.parametrize("facts", IMPOSSIBLE)
def test_check_finds_what_cannot_be(
    facts: dict[str, Any], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [settlement(**facts)])
    assert main(["store", "check", "--store", url]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith(f"fault: {settlement().id}: ")
    assert out[-1] == "1 faults"


def test_check_and_export_tell_of_a_record_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    fill("sqlite:///a.db", [settlement("1", payer="1"), settlement("2", payer="2")])
    with closing(sqlite3.connect("a.db")) as connection:
        connection.execute("UPDATE settlement SET data = 'nonsense' WHERE key = ?", (settlement("1").key,))
        connection.commit()
    assert main(["store", "check", "--store", "sqlite:///a.db", "--json"]) == 1
    assert "cannot be read" in json.loads(capsys.readouterr().out)["faults"][0]
    assert main(["store", "export", "--store", "sqlite:///a.db", "--to", "some.jsonl"]) == 1
    assert Path("some.jsonl").read_text().splitlines()[-1] == '{"records":1}'


@pytest.mark.parametrize(
    "args",
    [
        "store check --store sqlite:///none.db",
        "store export --store sqlite:///none.db",
        "store export --store memory://",
        "store import none.jsonl",
        "store import",
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    args: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_an_export_to_a_directory_asks_for_a_file_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "export", "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"guardian: --to: {tmp_path} is a directory; name a file in it\n"


def test_an_export_into_a_directory_that_is_not_there_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    fill("sqlite:///a.db", [settlement()])
    assert main(["store", "export", "--store", "sqlite:///a.db", "--to", "gone/all.jsonl"]) == 2
    assert "--to: there is no directory gone;" in capsys.readouterr().err


def test_a_record_that_could_not_be_found_by_its_key_is_not_imported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill("sqlite:///a.db", [settlement("1", payer="1"), settlement("2", payer="2", id="pay_else")])
    export("sqlite:///a.db")
    capsys.readouterr()
    assert main(["store", "import", "all.jsonl", "--store", "sqlite:///b.db"]) == 2
    assert "line 3: the id pay_else is not that of the key" in capsys.readouterr().err
