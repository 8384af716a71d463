"""A damaged record is unavailable, or another sound record: never a crash, never half of one."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardian.errors import StoreUnavailable
from guardian.settlement.record import Settlement, begun
from guardian.settlement.states import Money
from guardian.store import redis
from guardian.store.sqlite import SqliteStore
from guardian.wire.names import Address, Network, Nonce
from guardian.wire.payment import Method

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
PIECES = st.binary(max_size=6) | st.sampled_from(
    [b'"', b"{", b"}", b"null", b"true", b"1e400", b"9" * 30, b"\xff", b"\x00", b'"money":"confirmed"', b"[]"]
)
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=4)

RECORD = begun(
    Settlement(
        key="eip155:8453/0x1/0x2/0x3",
        id="pay_" + "1" * 32,
        x402_version=2,
        scheme="exact",
        method=Method.EIP3009,
        network=Network("eip155:8453"),
        network_as_sent="base",
        asset=Address("0x1"),
        payer=Address("0x2"),
        pay_to=Address("0x4"),
        amount=2**255,
        nonce=Nonce("0x3"),
        resource="https://shop/x",
        valid_before=2_000_000_000,
        signature_hash="ab",
        vouched=False,
        watched=True,
        created_at=1.0,
        updated_at=1.0,
        body=b"{}",
    ),
    Money.PENDING,
)


def mutated(data: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for at, cut, piece in mutations:
        index = int(at * len(data))
        data = data[:index] + piece + data[index + cut :]
    return data


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "guardian.db"

    async def write() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.claim(RECORD)
        await store.close()

    asyncio.run(write())
    return path


async def _read(path: Path) -> list[object]:
    """What each way of reading gives: records, or that the store is unavailable."""
    store = SqliteStore(path)
    await store.open()
    try:
        asked = (store.get(RECORD.key), store.get_by_id(RECORD.id), store.open_records(), store.page())
        return list(await asyncio.gather(*asked, return_exceptions=True))
    finally:
        await store.close()


@settings(max_examples=60, suppress_health_check=QUIET, deadline=None)
@given(mutations=MUTATIONS, in_body=st.booleans())
def test_a_damaged_row_is_unavailable_or_whole(
    file: Path, mutations: list[tuple[float, int, bytes]], in_body: bool
) -> None:
    column = "body" if in_body else "data"
    connection = sqlite3.connect(file)
    (sound,) = connection.execute(f"SELECT {column} FROM settlement").fetchone()
    connection.execute(f"UPDATE settlement SET {column} = ?", (mutated(bytes(sound), mutations),))
    connection.commit()
    try:
        for found in asyncio.run(_read(file)):
            assert found is None or isinstance(found, StoreUnavailable | Settlement | list)
    finally:
        connection.execute(f"UPDATE settlement SET {column} = ?", (sound,))
        connection.commit()
        connection.close()


@settings(max_examples=400, suppress_health_check=QUIET, deadline=None)
@given(mutations=MUTATIONS)
def test_a_damaged_value_in_redis_is_unavailable_or_whole(mutations: list[tuple[float, int, bytes]]) -> None:
    try:
        found = redis._decode(mutated(redis._encode(RECORD), mutations))
    except StoreUnavailable:
        return
    assert isinstance(found, Settlement)


@settings(max_examples=25, suppress_health_check=QUIET, deadline=None)
@given(at=st.floats(0, 1), noise=st.binary(min_size=1, max_size=64))
def test_a_damaged_file_is_unavailable(tmp_path: Path, file: Path, at: float, noise: bytes) -> None:
    content = bytearray(file.read_bytes())
    index = int(at * (len(content) - 1))
    content[index : index + len(noise)] = noise
    copy = tmp_path / "copy.db"
    copy.write_bytes(bytes(content))
    for rest in ("-wal", "-shm"):
        Path(f"{copy}{rest}").unlink(missing_ok=True)
    try:
        found = asyncio.run(_read(copy))
    except StoreUnavailable:
        return
    assert all(one is None or isinstance(one, StoreUnavailable | Settlement | list) for one in found)
