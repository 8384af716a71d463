"""Where an upstream is, and that nothing above its base can be named."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.upstream.place import BadPath, Place, as_sent


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://shop", (False, "shop", 80, b"shop", b"")),
        ("https://shop/", (True, "shop", 443, b"shop", b"")),
        ("https://shop:8443/api/v1/", (True, "shop", 8443, b"shop:8443", b"/api/v1")),
        ("http://[::1]:80/x", (False, "::1", 80, b"[::1]:80", b"/x")),
    ],
)
def test_a_url_has_an_origin_and_a_base(url: str, expected: tuple[object, ...]) -> None:
    place = Place.of(url)
    assert (place.secure, place.host, place.port, place.netloc, place.base) == expected


@pytest.mark.parametrize("rest", [b"", b"/", b"/a b", b"/a\r\nHost: x", b"/\xc3\xa9", b"/a\x00"])
def test_a_target_is_always_one_word(rest: bytes) -> None:
    try:
        target = Place.of("http://shop").target(rest, b"")
    except BadPath:
        return
    assert target.startswith(b"/")
    assert not set(target) & set(b" \r\n\x00")


def test_a_query_is_no_way_around_either() -> None:
    with pytest.raises(BadPath):
        Place.of("http://shop").target(b"/x", b"a=1 HTTP/1.1\r\nx: y")
    assert Place.of("http://shop").target(b"/x", b"a=../..&b=%2e") == b"/x?a=../..&b=%2e"


def test_a_path_that_was_decoded_is_encoded_again() -> None:
    assert as_sent(None, "/a b\r\n/é") == b"/a%20b%0D%0A/%C3%A9"
    assert as_sent(b"/a%20b?x", "/a b") == b"/a%20b"


_PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "%2e", "%2E", "%2f", "%5c", "%25", "2e", ";", "a", "%00", "%c0%ae", " ", "%09"]
)


@given(st.lists(_PIECES, max_size=10).map("".join))
def test_no_reading_of_a_passed_path_climbs(path: str) -> None:
    try:
        target = Place.of("http://shop/base").target(b"/" + path.encode(), b"")
    except BadPath:
        return
    for _ in range(6):
        for segment in target.replace(b"\\", b"/").split(b"/"):
            bare = segment.split(b";")[0].split(b"\x00")[0].strip()
            assert bare not in (b"..", b"\xc0\xae\xc0\xae", b".\xc0\xae", b"\xc0\xae.")
        target = unquote_to_bytes(target)
