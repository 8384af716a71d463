"""Which URL gives which store."""

import pytest

from guardian.errors import PolicyError
from guardian.store.memory import MemoryStore
from guardian.store.open import open_store
from guardian.store.redis import RedisStore
from guardian.store.sqlite import SqliteStore


def test_known_urls_give_their_store(tmp_path):
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("sqlite:///guardian.db"), SqliteStore)
    assert isinstance(open_store(f"sqlite:///{tmp_path}/guardian.db"), SqliteStore)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("rest", ["://h/0", "+sentinel://h/main", "+cluster://h"])
def test_every_kind_of_redis_gives_the_shared_store(scheme, rest):
    store = open_store(scheme + rest)
    assert isinstance(store, RedisStore)
    assert store.shared


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "pg://u:secret@h/d"])
def test_unusable_url_is_refused_with_a_cure_and_without_its_secrets(url):
    with pytest.raises(PolicyError, match="use sqlite:///") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
