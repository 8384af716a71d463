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

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for an operator's own sqlite3 session to let go of the file."""

CACHE_KIB = 32 * 1024
"""Pages kept by the writing connection: the indexes of some hundred thousand records."""

APPLICATION_ID = 0x50475244
"""Marks the file as ours ("PGRD"), so that another program's database is never written to."""

UNSETTLED = (
    "(money IN ('unresolved', 'polling')"
    " OR (money IN ('confirmed', 'confirmed_late') AND answer <> 'accepted'))"
)
OPEN = (
    "(money IN ('idle', 'pending', 'unresolved', 'polling')"
    " OR (money = 'confirmed' AND watched = 1 AND chain_proven = 0))"
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
        f"""CREATE INDEX settlement_unsettled ON settlement
            (payer, pay_to, amount, asset, network, created_at) WHERE {UNSETTLED}""",
        f"CREATE INDEX settlement_open ON settlement (created_at) WHERE {OPEN}",
        "CREATE TABLE heartbeat (only INTEGER PRIMARY KEY CHECK (only = 1), beats INTEGER NOT NULL)",
        "INSERT INTO heartbeat VALUES (1, 0)",
    ),
    # Rows from before keep their body inside `data`, where it is still found.
    ("ALTER TABLE settlement ADD COLUMN body BLOB NOT NULL DEFAULT x''",),
)
"""Statements that lead from each `PRAGMA user_version` to the next; only ever appended to."""


def lock_file(path: Path) -> int:
    """Hold `<path>.lock` until the descriptor is closed; raises StoreUnavailable if another has it.

    Two processes on one file would each settle what the other has in flight in memory. The lock
    file is never deleted: a deleted one could be locked twice.
    """
    try:
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise StoreUnavailable(f"{path}: cannot open the lock file: {exc.strerror}") from exc
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(held)
        raise StoreUnavailable(
            f"{path}: in use by another guardian; stop it first, or give this one its own file"
        ) from exc
    return held


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection, schema in place; raises StoreUnavailable."""
    try:
        # Created here with the final permissions: it holds signatures; WAL and index files inherit.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
        connection = _connect(path)
    except (OSError, sqlite3.Error) as exc:
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc
    try:
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
    except sqlite3.Error as exc:
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
    except sqlite3.Error as exc:
        raise StoreUnavailable(f"{path}: cannot open the store: {exc}") from exc
    return connection


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
