"""What a Redis store URL may say, and how it is refused."""

import pytest

from guardian.errors import PolicyError
from guardian.store.redis_url import Durability, RedisAddress, Topology, read_redis_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress(Topology.SINGLE, (("h", 6379),))),
        ("redis://[::1]:7/3", RedisAddress(Topology.SINGLE, (("::1", 7),), db=3)),
        (
            "rediss://u:p%40s@h/",
            RedisAddress(Topology.SINGLE, (("h", 6379),), tls=True, user="u", password="p@s"),
        ),
        ("redis://:p@h", RedisAddress(Topology.SINGLE, (("h", 6379),), password="p")),
        (
            "redis+sentinel://a,b:7/main/2?wait=1",
            RedisAddress(Topology.SENTINEL, (("a", 26379), ("b", 7)), service="main", db=2, wait=1),
        ),
        ("rediss+cluster://a:1,b:2", RedisAddress(Topology.CLUSTER, (("a", 1), ("b", 2)), tls=True)),
        (
            "redis://h?durability=always&timeout=1.5s&prefix=shop-1&password_file=/run/p&ca_file=/ca.pem",
            RedisAddress(
                Topology.SINGLE,
                (("h", 6379),),
                durability=Durability.ALWAYS,
                timeout_s=1.5,
                prefix="shop-1",
                password_file="/run/p",
                ca_file="/ca.pem",
            ),
        ),
    ],
)
def test_address_says_what_the_url_says(url, address):
    assert read_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "host"),
        ("redis://a,b", r"neither \+sentinel nor \+cluster"),
        ("redis://h:0", "host:port"),
        ("redis://h:70000", "host:port"),
        ("redis://h/x", "database number"),
        ("redis://h/1/2", "database number"),
        ("redis+sentinel://h", "service name"),
        ("redis+cluster://h/1", "Cluster does not have"),
        ("redis://h?durability=some", "always, everysec or none"),
        ("redis://h?wait=-1", "number of replicas"),
        ("redis://h?timeout=0", "seconds from 0.1"),
        ("redis://h?timeout=5m", "seconds from 0.1"),
        ("redis://h?prefix=a:b", "letters"),
        ("redis://h?password_file=", "name a file"),
        ("redis://:s3cret@h?password_file=/x", "keep one"),
        ("redis://h?ssl_cert_reqs=none", "unknown"),
        ("redis://h?wait=1&wait=2", "stands twice"),
        ("redis://[::1", "not a URL"),
    ],
)
def test_unusable_url_is_refused_with_what_is_wrong(url, said):
    with pytest.raises(PolicyError, match=said) as caught:
        read_redis_url(url)
    assert "s3cret" not in str(caught.value)


def test_password_does_not_show_in_the_address():
    assert "s3cret" not in repr(read_redis_url("redis://:s3cret@h"))
