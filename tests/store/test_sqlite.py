"""What only the file can show: durability, permissions, one process, versions, a broken disk."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from guardian.errors import StoreUnavailable
from guardian.settlement.record import after_money
from guardian.settlement.states import Answer, Money, MoneyEvent
from guardian.store import sqlite as sqlite_module
from guardian.store.schema import APPLICATION_ID, VERSIONS
from guardian.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import asyncio, os, resource, sys
from tests.store.conftest import settlement
from guardian.settlement.record import after_money
from guardian.settlement.states import MoneyEvent
from guardian.store.sqlite import SqliteStore
from guardian.errors import StoreUnavailable
"""

WRITE_UNTIL_KILLED = """
async def one(store, worker):
    n = 0
    while True:
        n += 1
        record = (await store.claim(settlement(f"LIFE-{worker}-{n}", payer=f"LIFE-{worker}-{n}"))).record
        os.write(1, f"{record.key} 0\\n".encode())
        await store.update(record, after_money(record, MoneyEvent.DOUBT, now=2.0))
        os.write(1, f"{record.key} 1\\n".encode())

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await asyncio.gather(*(one(store, worker) for worker in range(8)))

asyncio.run(main())
"""

OPEN_AND_HOLD = """
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    print("open", flush=True)
    sys.stdin.read()
    await store.close()

asyncio.run(main())
"""

FILL_THE_DISK = """
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    kept = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    try:
        for n in range(10_000):
            record = settlement(str(n), payer=str(n), body=b"x" * 2000)
            await store.claim(record)
            kept.append(record.key)
    except StoreUnavailable:
        print("refused", flush=True)
    try:
        for _ in range(100):  # a record is larger than what is left, a beat may still fit
            await store.ping()
    except StoreUnavailable:
        print("ping refused", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.ping()
    assert kept and all([await store.get(key) for key in kept])
    await store.close()
    print("recovered", flush=True)

asyncio.run(main())
"""


def start(program, path, **pipes):
    code = textwrap.dedent(PREAMBLE + program)
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, **pipes)


def on_file(path, script, **how):
    async def main():
        store = SqliteStore(path, **how)
        await store.open()
        try:
            return await script(store)
        finally:
            await store.close()

    return asyncio.run(main())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "guardian.db"


def test_acknowledged_writes_survive_kill_9(path):
    acknowledged: dict[str, int] = {}
    choose = random.Random(8)
    for life in range(5):
        with start(WRITE_UNTIL_KILLED.replace("LIFE", str(life)), path) as writer:
            said = [writer.stdout.readline() for _ in range(choose.randrange(1, 1200))]
            writer.kill()
            said += writer.stdout.readlines()
        for key, version in (line.split() for line in said if line.endswith(b"\n")):
            acknowledged[key.decode()] = int(version)
        assert_stored(path, acknowledged)
    assert len(acknowledged) > 500


def assert_stored(path, acknowledged):
    async def script(store):
        for key, version in acknowledged.items():
            record = await store.get(key)
            assert record is not None
            assert record.version >= version

    on_file(path, script)


def test_records_survive_a_restart(path, new):
    async def write(store):
        record = (await store.claim(new())).record
        await store.update(record, after_money(record, MoneyEvent.DOUBT, now=2.0))

    async def read(store):
        return await store.open_records()

    on_file(path, write)
    assert [record.money for record in on_file(path, read)] == [Money.UNRESOLVED]


def test_files_are_readable_by_their_owner_alone(path, new):
    path.touch(0o644)

    async def script(store):
        await store.claim(new())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert set(modes) >= {"guardian.db", "guardian.db-wal", "guardian.db.lock"}
        assert set(modes.values()) == {0o600}

    on_file(path, script)


def test_second_process_is_refused_until_the_first_is_gone(path):
    async def nothing(store):
        await store.ping()

    with start(OPEN_AND_HOLD, path, stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(StoreUnavailable, match="in use by another guardian"):
            on_file(path, nothing)
        first.kill()
        first.wait()
    on_file(path, nothing)


def test_second_guardian_is_refused_under_another_name_too(path):
    alias = path.with_name("alias.db")
    alias.symlink_to(path)

    async def second(store):
        with pytest.raises(StoreUnavailable, match="in use by another guardian"):
            await SqliteStore(alias).open()

    async def nothing(store):
        await store.ping()

    on_file(path, second)
    on_file(alias, nothing)


def test_links_that_lead_round_in_a_circle_are_refused(path):
    path.symlink_to(path)

    async def nothing(store): ...

    with pytest.raises(StoreUnavailable, match="cannot open the store"):
        on_file(path, nothing)


def test_full_disk_refuses_writes_keeps_what_was_acknowledged_and_recovers(path):
    with start(FILL_THE_DISK, path) as process:
        said = process.stdout.read().decode().split("\n")
    assert process.returncode == 0
    assert said == ["refused", "ping refused", "recovered", ""]


@pytest.mark.parametrize("ending", ["", "-wal", ".lock"])
def test_nothing_is_written_once_a_file_is_not_the_one_that_was_opened(path, new, ending):
    async def script(store):
        record, file, aside = new(), Path(f"{path}{ending}"), path.with_name("aside")
        file.rename(aside)
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.claim(record)
        file.write_bytes(aside.read_bytes())
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.ping()
        aside.rename(file)
        assert (await store.claim(record)).created

    on_file(path, script)


def test_ping_writes(path):
    async def script(store):
        await store.ping()
        await store.ping()

    on_file(path, script)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT beats FROM heartbeat").fetchone() == (2,)


def test_ping_fails_when_the_table_is_gone(path):
    async def script(store):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE heartbeat")
        with pytest.raises(StoreUnavailable):
            await store.ping()

    on_file(path, script)


def test_newer_schema_is_refused_clearly(path):
    async def nothing(store): ...

    on_file(path, nothing)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="newer guardian"):
        on_file(path, nothing)


def test_records_of_the_first_schema_keep_their_body(path, new):
    async def script(store):
        record = await store.get(new().key)
        assert record == new()
        await store.update(record, after_money(record, MoneyEvent.DOUBT, now=2.0))
        assert (await store.get(new().key)).body == new().body

    with closing(sqlite3.connect(path)) as connection:
        for statement in VERSIONS[0]:
            connection.execute(statement)
        *columns, _, _, _ = sqlite_module._row(new())
        row = (*columns, msgspec.json.encode(new()))
        connection.execute(f"INSERT INTO settlement VALUES ({','.join('?' * len(row))})", row)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    on_file(path, script)


def test_records_of_a_store_found_by_key_are_found_by_id_once_it_is_upgraded(path, new):
    before = [new(str(number), payer=str(number)) for number in range(5)]

    async def script(store):
        assert [await store.get(record.key) for record in before] == before
        assert (await store.scan("", 3))[0] == before[:3]
        assert not (await store.claim(before[0])).created
        assert await store.disagreements(before) == []
        assert (await store.condition()).faults == ()

    with closing(sqlite3.connect(path)) as connection:
        for statements in VERSIONS[:5]:
            for statement in statements:
                connection.execute(statement)
        for record in before:
            row = sqlite_module._row(record)
            connection.execute(f"INSERT INTO settlement VALUES ({','.join('?' * len(row))})", row)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 5")
        connection.commit()
    on_file(path, script)


def test_older_store_lists_what_nobody_was_told_once_it_is_upgraded(path, new):
    untold = new("1", money=Money.CONFIRMED)
    orphan = new("2", money=Money.CONFIRMED, answer=Answer.REFUSED)

    async def script(store):
        assert await store.open_records() == [untold]
        assert await store.page(orphans=True) == [orphan]
        assert await store.disagreements([untold, orphan]) == []
        assert (await store.condition()).faults == ()

    with closing(sqlite3.connect(path)) as connection:
        for statements in VERSIONS[:2]:
            for statement in statements:
                connection.execute(statement)
        for record in (untold, orphan):
            *row, _closed = sqlite_module._row(record)
            connection.execute(f"INSERT INTO settlement VALUES ({','.join('?' * len(row))})", row)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    with pytest.raises(StoreUnavailable, match="has schema 2"):
        on_file(path, script, reading=True)
    on_file(path, script)


def test_store_in_use_can_be_read_beside_its_owner_and_not_written(path, new):
    async def beside(store):
        assert await store.get(new().key) == new()
        assert (await store.scan("", 10))[0] == [new()]
        with pytest.raises(StoreUnavailable, match="for reading only"):
            await store.claim(new("2"))

    async def main():
        owner, reader = SqliteStore(path), SqliteStore(path, reading=True)
        await owner.open()
        await owner.claim(new())
        await reader.open()
        await beside(reader)
        await reader.close()
        await owner.close()

    asyncio.run(main())


def test_reading_makes_no_file(path):
    async def nothing(store): ...

    with pytest.raises(StoreUnavailable, match="no such store"):
        on_file(path, nothing, reading=True)
    assert not path.exists()


def test_record_that_cannot_be_read_is_met_as_such(path, new):
    async def write(store):
        await store.claim(new("1"))
        await store.claim(new("2"))

    async def read(store):
        return await store.scan("", 10)

    on_file(path, write)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE settlement SET data = '{}' WHERE key = ?", (new("1").key,))
        connection.commit()
    (broken, whole), after = on_file(path, read)
    assert (broken.key, whole, after) == (new("1").key, new("2"), "")


@pytest.mark.parametrize("column", ["money = 'failed'", "closed = 1", "amount = '9'", "answer = 'none'"])
def test_column_that_does_not_say_what_the_record_says_is_told(path, new, column):
    async def write(store):
        await store.claim(new())

    async def read(store):
        return await store.disagreements([new()])

    on_file(path, write)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE settlement SET {column}")
        connection.commit()
    (said,) = on_file(path, read)
    assert said.startswith(f"{new().id}: the columns")


def test_damaged_file_is_told(path, new):
    async def write(store):
        for number in range(50):
            await store.claim(new(str(number), payer=str(number)))

    async def look(store):
        return await store.condition()

    on_file(path, write)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        forget = "UPDATE sqlite_master SET sql = replace(sql, 'pending', 'other') WHERE name = ?"
        connection.execute(forget, ("settlement_open",))
        connection.commit()
    assert on_file(path, look, reading=True).faults


def test_file_of_another_program_is_refused_and_left_alone(path):
    async def nothing(store): ...

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreUnavailable, match="another program"):
        on_file(path, nothing)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_file_that_is_no_database_is_refused_and_left_as_it_was(path):
    async def nothing(store): ...

    path.write_bytes(b"version: 1\n" * 300)
    path.chmod(0o644)
    with pytest.raises(StoreUnavailable, match="another kind; name the store's file"):
        on_file(path, nothing)
    with pytest.raises(StoreUnavailable, match="is it the store's file"):
        on_file(path, nothing, reading=True)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_directory_is_refused(tmp_path):
    async def nothing(store): ...

    for reading in (True, False):
        with pytest.raises(StoreUnavailable, match="is a directory; name a file in it"):
            on_file(tmp_path, nothing, reading=reading)


def test_missing_directory_is_refused(tmp_path):
    async def nothing(store): ...

    with pytest.raises(StoreUnavailable, match="lock file"):
        on_file(tmp_path / "missing" / "guardian.db", nothing)


def test_text_that_cannot_be_stored_is_refused_and_harms_no_other(path, new):
    async def script(store):
        bad, good = await asyncio.gather(
            store.claim(new("1", reason="\ud800")), store.claim(new("2")), return_exceptions=True
        )
        assert isinstance(bad, StoreUnavailable)
        assert good.created
        assert await store.get(new("1").key) is None

    on_file(path, script)


def test_two_keys_with_one_id_are_refused(path, new):
    async def script(store):
        await store.claim(new("1"))
        with pytest.raises(StoreUnavailable, match="of another payment"):
            await store.claim(new("2", id=new("1").id))

    on_file(path, script)


@pytest.mark.parametrize(
    ("sql", "values", "index"),
    [
        (sqlite_module._BY_PURCHASE, 5, "settlement_unsettled (payer=?"),
        (sqlite_module._OPEN_RECORDS, 0, "settlement_open"),
        (sqlite_module._page_query([], True, None)[0], 1, "settlement_unsettled"),
        (sqlite_module._page_query([], False, 1.0)[0], 2, "settlement_created (created_at<?"),
        (sqlite_module._OLD, 2, "settlement_created (created_at<?"),
    ],
)
def test_lookups_use_their_index(path, sql, values, index):
    async def nothing(store): ...

    on_file(path, nothing)
    arguments = {"before": 1.0, "limit": 1} if ":before" in sql else [1] * values
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", arguments).fetchall()
    assert index in " ".join(str(step) for step in plan)


def test_lock_file_is_left_behind_for_the_next_start(path):
    async def nothing(store): ...

    on_file(path, nothing)
    assert os.path.exists(f"{path}.lock")
