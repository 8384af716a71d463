"""Every parser of foreign bytes, fuzzed: nothing but the named errors, bounded words, bounded time.

The targets stand in bench/fuzz/targets.py, so that they can be run for hours by hand too.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz.targets import SEEDS, TARGETS, WORST, timed

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\\u0000", b"\\ud800", b"null", b"true", b"false"),
    *(
        b"1e400",
        b"-0",
        b"9" * 80,
        b"0x",
        b"\x00",
        b"\r\n",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        "é".encode(),
        b"%00",
    ),
    *(b"success", b"transaction", b"errorReason", b"settlement_pending", b"nonce", b"0x" + b"ab" * 32),
    *(b"Wed,", b"@", b"/../", b"//", b"?", b"#", b"<script>", b"</script>", b"&a", b"*a", b"- "),
]
PIECES = st.sampled_from(TOKENS) | st.binary(max_size=6)
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=5)
LEAVES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        2**63,
        2**64,
        2**300,
        1e308,
        "",
        "x",
        "0x",
        "0" * 80,
        "١",
        "\x00",
        "\u2028",
    ),
    *("0x" + "AB" * 32, "0x" + "ab" * 20, "eip155:8453", "base", "a" * 3000, [], {}, [[]], [None], {"": {}}),
]


def mutated(data: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for at, cut, piece in mutations:
        index = int(at * len(data))
        data = data[:index] + piece + data[index + cut :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_sound_and_worst_input_is_taken_in_time(name: str) -> None:
    for data in (*SEEDS[name], *WORST[name]):
        timed(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=250, suppress_health_check=QUIET, deadline=None)
@given(data=st.data())
def test_mutated_bytes_break_nothing(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS[name]))
    timed(TARGETS[name], mutated(seed, data.draw(MUTATIONS)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, suppress_health_check=QUIET, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_break_nothing(name: str, data: bytes) -> None:
    timed(TARGETS[name], data)


def _is_json(seed: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(seed.lstrip(b"\x00\x0b\x0c")), dict | list)
    return False


TREES = {name: [seed for seed in seeds if _is_json(seed)] for name, seeds in SEEDS.items()}


@pytest.mark.parametrize("name", [name for name, seeds in TREES.items() if seeds])
@settings(max_examples=250, suppress_health_check=QUIET, deadline=None)
@given(data=st.data())
def test_odd_values_in_sound_json_break_nothing(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(TREES[name]))
    text = seed.lstrip(b"\x00\x0b\x0c")
    tree = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        tree = _changed(tree, data.draw)
    timed(TARGETS[name], seed[: len(seed) - len(text)] + json.dumps(tree).encode())


def _changed(tree: Any, draw: Callable[[Any], Any]) -> Any:
    """The tree with one value, somewhere in it, replaced or gone."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(LEAVES))
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = draw(st.sampled_from(keys))
    changed = tree.copy()
    if draw(st.integers(0, 6)) == 0:
        del changed[key]
    else:
        changed[key] = _changed(tree[key], draw)
    return changed
