"""Which servers a payment is entrusted to, by what they say of themselves."""

import dataclasses

import pytest

from guardian.store.redis_fit import Server, clocks_apart, judge
from guardian.store.redis_url import read_redis_url

FIT = Server(
    version="7.2.4",
    role="master",
    replicas=0,
    appendonly="yes",
    appendfsync="always",
    eviction="noeviction",
    min_replicas="0",
)


def said(url="redis://h", **facts):
    return judge(dataclasses.replace(FIT, **facts), read_redis_url(url))


@pytest.mark.parametrize("url", ["redis://h", "redis://h?durability=always", "redis://h?durability=none"])
def test_durable_primary_that_evicts_nothing_is_fit(url):
    assert said(url) == ("", [])


@pytest.mark.parametrize(
    ("url", "facts", "refusal"),
    [
        ("redis://h", {"version": "5.0.9"}, "too old"),
        ("redis://h", {"role": "slave"}, "read-only replica"),
        ("redis://h?durability=none", {"eviction": "volatile-lru"}, "noeviction"),
        ("redis://h", {"appendonly": "no"}, "set appendonly yes"),
        ("redis://h", {"appendfsync": "no"}, "set appendfsync always"),
        ("redis://h?durability=always", {"appendfsync": "everysec"}, "demands always"),
        ("redis://h?durability=always", {"appendfsync": ""}, "CONFIG is forbidden"),
    ],
)
def test_server_that_may_lose_a_record_is_refused(url, facts, refusal):
    assert refusal in said(url, **facts)[0]


@pytest.mark.parametrize(
    ("url", "facts", "warning"),
    [
        ("redis://h", {"appendfsync": "everysec"}, "last second"),
        ("redis://h", {"appendfsync": "", "appendonly": ""}, "cannot see appendonly"),
        ("redis://h", {"eviction": ""}, "cannot see maxmemory-policy"),
        ("redis://h?durability=none", {"appendonly": "no"}, "for trials only"),
        ("redis://h", {"replicas": 1}, "failover may lose"),
        ("redis+sentinel://h/main", {}, "failover may lose"),
        ("redis+cluster://h", {}, "failover may lose"),
    ],
)
def test_doubt_about_a_server_is_said(url, facts, warning):
    refusal, warnings = said(url, **facts)
    assert refusal == ""
    assert any(warning in text for text in warnings)


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        ("redis://h?durability=everysec", {"appendfsync": "everysec"}),
        ("redis+sentinel://h/main?wait=1", {"replicas": 2}),
        ("redis+cluster://h", {"min_replicas": "1"}),
        ("redis://h", {"version": "", "role": ""}),
    ],
)
def test_what_was_accepted_or_cured_is_not_warned_of(url, facts):
    assert said(url, **facts) == ("", [])


@pytest.mark.parametrize(
    ("at", "apart"),
    [
        (0.0, ""),
        (1_000_050.0, ""),
        (1_000_061.0, "61 s behind that of Redis"),
        (740_800.0, "259200 s ahead of that of Redis"),
    ],
)
def test_clocks_that_are_apart_are_told_of(at, apart):
    assert clocks_apart(dataclasses.replace(FIT, at=at), 1_000_000.0).endswith(apart)
    assert bool(clocks_apart(dataclasses.replace(FIT, at=at), 1_000_000.0)) is bool(apart)
