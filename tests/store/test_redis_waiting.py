"""What an operator reads while Redis is out of reach at the start."""

import asyncio
import logging

import pytest

from guardian.errors import StoreUnavailable
from guardian.store import redis_waiting
from guardian.store.open import open_store
from guardian.store.redis_url import read_redis_url
from guardian.store.redis_waiting import shown


def opened(url):
    async def main():
        store = open_store(url)
        try:
            await store.open()
        finally:
            await store.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def at_once(monkeypatch, caplog):
    monkeypatch.setattr(redis_waiting, "TOLD_AFTER_S", 0.0)
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("redis://ann:hunter2@127.0.0.1:1/3?timeout=0.5s", "look whether it runs"),
        ("redis+sentinel://ann:hunter2@127.0.0.1:1/pay/3?timeout=0.5s", "look at the sentinels"),
    ],
)
def test_what_is_waited_for_is_said_once_without_the_password(url, cure, caplog):
    with pytest.raises(StoreUnavailable, match=cure) as refused:
        opened(url)
    assert "hunter2" not in str(refused.value)
    (told,) = caplog.records
    assert (told.message, told.levelname) == ("waiting for the store", "WARNING")
    assert told.store == url.partition("?")[0].replace("ann:hunter2@", "")
    assert "nothing is sent" in told.meanwhile


def test_that_it_is_there_is_said_to_who_was_told_to_wait(redis_url, caplog):
    opened(redis_url)
    assert [one.message for one in caplog.records] == ["waiting for the store", "the store is there"]


def test_a_store_that_answers_at_once_needs_no_word(redis_url, caplog, monkeypatch):
    monkeypatch.setattr(redis_waiting, "TOLD_AFTER_S", 60.0)
    opened(redis_url)
    assert not caplog.records


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rediss://u:p@[::1]:7000/0?wait=1", "rediss://[::1]:7000/0"),
        ("redis+cluster://u:p@a:1,b:2", "redis+cluster://a:1,b:2"),
        ("rediss+sentinel://a,b/pay", "rediss+sentinel://a:26379,b:26379/pay/0"),
    ],
)
def test_a_store_is_shown_as_its_url_without_secrets(url, said):
    assert shown(read_redis_url(url)) == said
