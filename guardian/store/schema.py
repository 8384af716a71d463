"""The SQLite file: its tables by version, and how it is opened safely. No record logic.

`data` is the Settlement as JSON (msgspec's MessagePack has no integers of 256 bits) but for its body,
whose bytes stand beside it as they are: it is most of a new record. The other columns exist to be
searched. Partial indexes hold only what is unfinished, so looking for it costs
nothing when little is; their conditions are repeated word for word in the queries that use them.
"""

import fcntl
import os
import sqlite3
from pathlib import Path

from guardian.errors import StoreUnavailable
from guardian.store.protocol import Condition

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for an operator's own sqlite3 session to let go of the file."""

CACHE_KIB = 32 * 1024
"""Pages kept by the writing connection: the indexes of some hundred thousand records."""

PAGE_BYTES = 8192
"""Of a new file: a record with its request takes 2 to 3 kB, so that smaller pages hold one each, and a
commit writes page by page, at two system calls each. Larger ones cost more where an index is touched."""

SQLITE_FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file raises: SQLite's own message may quote a name that is no text any more."""

FAULTS_TOLD = 20
"""Of a damaged file: it is restored whole, not line by line."""

SQLITE_HEAD = b"SQLite format 3\0"
"""What every such file begins with: https://www.sqlite.org/fileformat.html#magic_header_string"""

APPLICATION_ID = 0x50475244
"""Marks the file as ours ("PGRD"), so that another program's database is never written to."""

UNSETTLED = (
    "(money IN ('unresolved', 'polling')"
    " OR (money IN ('confirmed', 'confirmed_late') AND answer <> 'accepted' AND closed = 0))"
)
OPEN = (
    "(money IN ('idle', 'pending', 'unresolved', 'polling')"
    " OR (money = 'confirmed' AND watched = 1 AND chain_proven = 0)"
    " OR (money IN ('confirmed', 'confirmed_late') AND answer IN ('none', 'held')))"
)

COLUMNS = (
    "key, id, version, money, answer, network, payer, pay_to, asset, amount, created_at, updated_at, watched,"
    " chain_proven, data, body, closed"
)

VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE settlement (
            key TEXT PRIMARY KEY NOT NULL,
            id TEXT NOT NULL,
            version INTEGER NOT NULL,
            money TEXT NOT NULL,
            answer TEXT NOT NULL,
            network TEXT NOT NULL,
            payer TEXT NOT NULL,
            pay_to TEXT NOT NULL,
            asset TEXT NOT NULL,
            amount TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            watched INTEGER NOT NULL,
            chain_proven INTEGER NOT NULL,
            data BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX settlement_id ON settlement (id)",
        "CREATE INDEX settlement_created ON settlement (created_at)",
        """CREATE INDEX settlement_unsettled ON settlement
            (payer, pay_to, amount, asset, network, created_at)
            WHERE (money IN ('unresolved', 'polling')
                OR (money IN ('confirmed', 'confirmed_late') AND answer <> 'accepted'))""",
        """CREATE INDEX settlement_open ON settlement (created_at)
            WHERE (money IN ('idle', 'pending', 'unresolved', 'polling')
                OR (money = 'confirmed' AND watched = 1 AND chain_proven = 0))""",
        "CREATE TABLE heartbeat (only INTEGER PRIMARY KEY CHECK (only = 1), beats INTEGER NOT NULL)",
        "INSERT INTO heartbeat VALUES (1, 0)",
    ),
    # Rows from before keep their body inside `data`, where it is still found.
    ("ALTER TABLE settlement ADD COLUMN body BLOB NOT NULL DEFAULT x''",),
    # closed: an orphan that was refunded or written off. Open is now also what nobody was told.
    (
        "ALTER TABLE settlement ADD COLUMN closed INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX settlement_unsettled",
        f"""CREATE INDEX settlement_unsettled ON settlement
            (payer, pay_to, amount, asset, network, created_at) WHERE {UNSETTLED}""",
        "DROP INDEX settlement_open",
        f"CREATE INDEX settlement_open ON settlement (created_at) WHERE {OPEN}",
    ),
    # Events for webhooks, in the order in which they came: never in the place of an earlier one.
    (
        """CREATE TABLE notice (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            hook TEXT NOT NULL,
            id TEXT NOT NULL,
            dead INTEGER NOT NULL,
            data BLOB NOT NULL,
            UNIQUE (hook, id)
        )""",
        "CREATE INDEX notice_hook ON notice (hook, dead, seq)",
    ),
    # The ledger: what is counted against budgets of agents, by which payment, and what people said of it.
    (
        """CREATE TABLE budget (
            name TEXT PRIMARY KEY NOT NULL,
            held TEXT NOT NULL,
            released TEXT NOT NULL,
            ends_at REAL NOT NULL
        )""",
        "CREATE INDEX budget_ends ON budget (ends_at)",
        """CREATE TABLE hold (
            key TEXT PRIMARY KEY NOT NULL,
            token TEXT NOT NULL,
            ask BLOB NOT NULL,
            settled INTEGER NOT NULL,
            at REAL NOT NULL,
            ends_at REAL NOT NULL
        )""",
        "CREATE INDEX hold_ends ON hold (ends_at)",
        "CREATE INDEX hold_unsettled ON hold (at) WHERE settled = 0",
        """CREATE TABLE paper (
            name TEXT PRIMARY KEY NOT NULL,
            text TEXT NOT NULL,
            ends_at REAL NOT NULL
        )""",
        "CREATE INDEX paper_ends ON paper (ends_at)",
    ),
    # Found by `id`, which every key gives: a second index of long random keys was a page of the disk more
    # for each payment.
    (
        "ALTER TABLE settlement RENAME TO settlement_by_key",
        """CREATE TABLE settlement (
            key TEXT NOT NULL,
            id TEXT PRIMARY KEY NOT NULL,
            version INTEGER NOT NULL,
            money TEXT NOT NULL,
            answer TEXT NOT NULL,
            network TEXT NOT NULL,
            payer TEXT NOT NULL,
            pay_to TEXT NOT NULL,
            asset TEXT NOT NULL,
            amount TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            watched INTEGER NOT NULL,
            chain_proven INTEGER NOT NULL,
            data BLOB NOT NULL,
            body BLOB NOT NULL,
            closed INTEGER NOT NULL
        )""",
        f"""INSERT INTO settlement (rowid, {COLUMNS})
            SELECT rowid, {COLUMNS} FROM settlement_by_key ORDER BY rowid""",
        "DROP TABLE settlement_by_key",
        "CREATE INDEX settlement_created ON settlement (created_at)",
        f"""CREATE INDEX settlement_unsettled ON settlement
            (payer, pay_to, amount, asset, network, created_at) WHERE {UNSETTLED}""",
        f"CREATE INDEX settlement_open ON settlement (created_at) WHERE {OPEN}",
    ),
)
"""Statements that lead from each `PRAGMA user_version` to the next; only ever appended to."""


def real_path(path: Path) -> Path:
    """Where the file itself stands: under two names it would have two lock files. Raises StoreUnavailable."""
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as exc:  # the latter for links that lead round in a circle
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}; name another file") from exc


def refuse_foreign(path: Path) -> None:
    """Raise StoreUnavailable for what is there and never was a store, before anything of it is touched."""
    if path.is_dir():
        raise StoreUnavailable(f"{path}: is a directory; name a file in it")
    try:
        with open(path, "rb") as file:
            head = file.read(len(SQLITE_HEAD))
    except FileNotFoundError:
        return
    except OSError as exc:
        cure = "make it readable for this user, or name another file"
        raise StoreUnavailable(f"{path}: cannot open the store: {exc.strerror}; {cure}") from exc
    if head not in (b"", SQLITE_HEAD):
        raise StoreUnavailable(f"{path}: a file of another kind; name the store's file, or a new one")


def lock_file(path: Path) -> int:
    """Hold `<path>.lock` until the descriptor is closed; raises StoreUnavailable if another has it.

    Two processes on one file would each settle what the other has in flight in memory. The lock
    file is never deleted: a deleted one could be locked twice.
    """
    try:
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        cure = "name a directory that is there and may be written to"
        raise StoreUnavailable(f"{path}: cannot open the lock file: {exc.strerror}; {cure}") from exc
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(held)
        raise StoreUnavailable(
            f"{path}: in use by another guardian; stop it first, or give this one its own file"
        ) from exc
    return held


class Files:
    """The files of a store that is open, each as it was then."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable where one is not there."""
        names = (str(path), f"{path}-wal", f"{path}.lock")
        try:
            self._opened = {name: _identity(name) for name in names}
        except OSError as exc:
            raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc

    def check(self) -> None:
        """Raise StoreUnavailable where one was removed or replaced since: what is written now is in no file
        that the next start would find, or that another guardian has opened meanwhile."""
        for name, opened in self._opened.items():
            try:
                stands = _identity(name) == opened
            except OSError:
                stands = False
            if not stands:
                raise StoreUnavailable(
                    f"{name} was removed or replaced under the guardian; put the file back, or restart"
                    " with the one that is there now"
                )


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection, schema in place; raises StoreUnavailable."""
    try:
        # Created here with the final permissions: it holds signatures; WAL and index files inherit.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
        connection = _connect(path)
    except (OSError, *SQLITE_FAULTS) as exc:
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _upgrade(path, connection)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreUnavailable(f"{path}: this file system cannot hold a store (no WAL)")
        connection.execute("PRAGMA synchronous = FULL")
        # The event loop writes to pages in memory: those a claim looks at should be there, and none
        # should go to the file before the thread commits.
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA cache_spill = OFF")
        connection.execute("PRAGMA fullfsync = ON")  # macOS, where fsync alone stops at the drive
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("SELECT beats FROM heartbeat").fetchone()  # now there is a WAL file, for `Files`
    except SQLITE_FAULTS as exc:
        connection.close()
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc
    except StoreUnavailable:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that sees what was committed, and cannot write; raises StoreUnavailable."""
    try:
        connection = _connect(path)
        connection.execute("PRAGMA query_only = ON")
    except SQLITE_FAULTS as exc:
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc
    return connection


def check_readable(path: Path) -> None:
    """Raise StoreUnavailable where there is no store that can be read as it is, without an upgrade."""
    if not path.is_file():
        fault = "is a directory; name a file in it" if path.is_dir() else "there is no such store"
        raise StoreUnavailable(f"{path}: {fault}")
    connection = connect_reader(path)
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    except SQLITE_FAULTS as exc:
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}; is it the store's file?") from exc
    finally:
        connection.close()
    if not ours:
        raise StoreUnavailable(f"{path}: a database of another program; name another file")
    if version != len(VERSIONS):
        raise StoreUnavailable(
            f"{path}: has schema {version}, this guardian reads {len(VERSIONS)}; an older one is upgraded"
            " by the next start of `guardian serve`, a newer one is read by the newer guardian"
        )


def look_at_file(path: Path) -> Condition:
    """The whole file: are its pages, its rows and its indexes sound? Seconds for a large one. Raises
    StoreUnavailable."""
    connection = connect_reader(path)

    def asked(name: str) -> list[str]:
        return [str(line) for (line,) in connection.execute(f"PRAGMA {name}")]

    try:
        faults = [f"the file: {line}" for line in asked(f"integrity_check({FAULTS_TOLD})") if line != "ok"]
        (version,), (journal,), (pages,) = asked("user_version"), asked("journal_mode"), asked("page_count")
    except SQLITE_FAULTS as exc:
        raise StoreUnavailable(f"{path}: cannot be read: {exc}") from exc
    finally:
        connection.close()
    if journal != "wal":
        faults.append(f"journal_mode is {journal}, not wal")
    # `synchronous` is no property of the file: the connection that writes sets it.
    settings = {"journal_mode": journal, "synchronous": "full", "pages": pages}
    return Condition("sqlite", int(version), settings, tuple(faults))


def _identity(name: str) -> tuple[int, int]:
    found = os.stat(name)
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _upgrade(path: Path, connection: sqlite3.Connection) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != APPLICATION_ID and not empty:
        raise StoreUnavailable(f"{path}: a database of another program; name another file")
    if version > len(VERSIONS):
        raise StoreUnavailable(
            f"{path}: written by a newer guardian (schema {version}, this one knows {len(VERSIONS)});"
            " run that version, or name another file"
        )
    connection.execute("BEGIN IMMEDIATE")
    for statements in VERSIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(VERSIONS)}")
    connection.execute("COMMIT")
