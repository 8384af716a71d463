"""Whatever a file holds, the loader gives a policy or a PolicyError with one line, and never a crash."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardian.errors import PolicyError
from guardian.policy.load import parse_policy
from guardian.policy.model import Policy
from guardian.policy.section import yaml_key

POLICIES = Path(__file__).parents[2] / "policies"
SOUND = [
    "version: 1\nfacilitators:\n  - name: main\n    url: http://h\nsettle:\n  hold: 25s\n",
    (POLICIES / "cdp.yaml").read_text(),
    """\
version: 1
default: {minimum_amount: $0.001, preflight: {validity: {do: warn, mode: shadow}}}
facilitators:
  - {name: a, url: http://a, profile: cdp, order: 1, weight: 2, pace: 50 per s, failover_to: [b]}
  - {name: b, url: http://b, auth: {header: {name: x-key, value: {file: /k}}, when: always}}
networks: {base: {rpc: [http://r], tokens: {"0x833589fcd6edb6e08f4c7c32d4f71b54bda02913": {decimals: 6}}}}
routes: [{name: weather, upstream: http://w, settle: {hold: 4s}}]
classify:
  rules: [{name: q, when: {operation: verify, status: [429, 5xx], text: quota}, class: permanent}]
  default: {settle: settlement, verify: unknown}
act: {rules: [{name: r, when: {class: transient}, retry: false}], default: {}}
tests: [{name: t, given: {operation: settle, transport: lost}, expect: {class: settlement}}]
""",
]
YAML = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!!str ",
    "~",
    "'",
    '"',
    "|\n",
    "? ",
    "#",
    "%",
]
ODD = [
    "---\n",
    "...\n",
    "<<: ",
    "\t",
    "\x00",
    "\u2028",
    "é",
    "1e9",
    "-",
    "@",
    "`",
    "null",
    "true",
    ">-\n",
    "\ud800",
]
WORDS = [
    "version",
    "url",
    "settle",
    "hold",
    "networks",
    "base",
    "facilitator",
    "default",
    "when",
    "class",
    "env",
]
VALUES = [
    "25",
    "25s",
    "$1",
    "5 atomic",
    "50 per s",
    "0x",
    "eip155:1",
    "settlement",
    "transient",
    "retry: true",
]
PIECES = st.sampled_from(YAML + ODD + WORDS + VALUES) | st.text(max_size=5)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


def loaded(text: str) -> None:
    """Loads, or says why not on one line."""
    try:
        policy = parse_policy(text, "p.yaml")
    except PolicyError as refused:
        said = str(refused)
    else:
        said = repr(policy)
    assert said.isprintable()


@settings(max_examples=120, suppress_health_check=QUIET, deadline=None)
@given(
    st.sampled_from(SOUND),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=4),
)
def test_a_mutated_policy_gives_a_policy_or_a_policy_error(
    text: str, mutations: list[tuple[float, int, str]]
) -> None:
    for at, cut, piece in mutations:
        index = int(at * len(text))
        text = text[:index] + piece + text[index + cut :]
    loaded(text)


@settings(max_examples=120, suppress_health_check=QUIET, deadline=None)
@given(st.sampled_from(SOUND), st.data())
def test_a_policy_with_lines_moved_gives_a_policy_or_a_policy_error(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        line = lines.pop(data.draw(st.integers(0, len(lines) - 1)))
        indent = data.draw(st.sampled_from(["", "  ", "    ", "- "]))
        lines.insert(data.draw(st.integers(0, len(lines))), indent + line.lstrip(" "))
    loaded("".join(lines))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS + VALUES)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
)
SECTIONS = st.sampled_from([yaml_key(name) for name in Policy.model_fields if name != "version"])


@settings(max_examples=120, suppress_health_check=QUIET, deadline=None)
@given(st.dictionaries(SECTIONS, TREES, max_size=4))
def test_any_values_in_any_section_give_a_policy_or_a_policy_error(sections: dict[str, object]) -> None:
    loaded("version: 1\n" + "".join(f"{name}: {_flow(value)}\n" for name, value in sections.items()))


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return "~" if value is None else str(value)


@settings(max_examples=60, suppress_health_check=QUIET, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_policy_error(text: str) -> None:
    loaded(text)
