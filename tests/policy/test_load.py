"""A policy file is either sound, or refused with place and cure; never a crash."""

from pathlib import Path

import pytest

from guardian.errors import PolicyError
from guardian.policy.load import load_policy, parse_policy
from guardian.policy.tree import MAX_BYTES

SMALLEST = """\
version: 1
facilitators:
  - name: main
    url: http://127.0.0.1:18402
networks:
  eip155:8453:
    rpc: [http://127.0.0.1:18545]
    settlement_timeout: 60s
    post_sign_delay: 1s
routes:
  - name: weather
    upstream: http://127.0.0.1:18500
"""
HEAD = "version: 1\nfacilitators: [{name: main, url: http://h}]\n"
DEFAULT_FILE = Path(__file__).parents[2] / "policies" / "default.yaml"


def refusal(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p.yaml")
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_smallest_policy_is_sound() -> None:
    policy = parse_policy(SMALLEST)
    assert policy.facilitators[0].url == "http://127.0.0.1:18402"
    assert policy.network("eip155:8453").rpc == ("http://127.0.0.1:18545",)
    assert policy.routes[0].name == "weather"


def test_the_shipped_file_is_sound() -> None:
    assert load_policy(DEFAULT_FILE).version == 1


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("facilitators: []\n", (1, 1), "version is missing"),
        ("version: 2\n", (1, 10), "write 1"),
        ("version: '1'\n", (1, 10), "write 1, without quotes"),
        ("version: true\n", (1, 10), "write 1"),
        ("version: 1\n", (1, 1), "neither facilitators nor routes"),
        (HEAD + "facilitatrs: []\n", (3, 1), "did you mean facilitators?"),
        (HEAD + "settle: {hold: 25s, hold_s: 3}\n", (3, 21), "did you mean hold?"),
        (HEAD + "networks:\n  base:\n    finallity: 3\n", (5, 5), "did you mean finality?"),
        (HEAD + "settlement_timout: 9s\n", (3, 1), "did you mean settlement_timeout? It belongs in default"),
        (
            HEAD + "networks: {base: {rpc: ['https://h/k', 'HTTPS://H:443/k/']}}\n",
            (3, 40),
            "stands here twice",
        ),
        (HEAD + "networks: {base: {rpc: ['http://h', 'http://h/']}}\n", (3, 37), "stands here twice"),
        (HEAD + "networks: {base: {rpc: [sepolia.base.org]}}\n", (3, 25), "begin it with http://"),
        (HEAD + "zzzzzzzz: 1\n", (3, 1), "known here: version, default, facilitators, networks"),
        (HEAD + "settle:\n  hold: 25\n", (4, 9), "'25' has no unit; write 25s"),
        (HEAD + "settle: {hold: 0s}\n", (3, 16), "'0s' is too small; write more than 0"),
        (HEAD + "retention: 59m\n", (3, 12), "law 4 (one authorization, one settlement, one delivery)"),
        (HEAD + "settle: {hold: 90s}\n", (3, 16), "hold_without_hash (80s) is shorter than hold (90s)"),
        (HEAD + "settle: {reuse_orphans: maybe}\n", (3, 25), "none of same_resource, same_payee, off"),
        (HEAD + "retry: {attempts: 0}\n", (3, 19), "'0' is too small; write 1 or more"),
        (HEAD + "retry: {attempts: 3s}\n", (3, 19), "whole number"),
        (HEAD + "settle:\n", (3, 1), "nothing stands here; indent its keys below it"),
        (HEAD + "settle: 25s\n", (3, 9), "must be a mapping"),
        (HEAD + "routes: weather\n", (3, 9), "must be a list"),
        (HEAD + "networks: {base: {finality: latest}}\n", (3, 29), "safe or finalized"),
        (HEAD + "networks: {'eip155:08453': {}}\n", (3, 28), "is not a network"),
        (HEAD + "networks: {basee: {}}\n", (3, 19), "did you mean base?"),
        (HEAD + "networks: {mainnet9: {}}\n", (3, 22), "write the CAIP-2 id"),
        (HEAD + "networks: {base: {}, 'eip155:8453': {}}\n", (3, 37), "a second time"),
        (HEAD + "networks: {1: {}}\n", (3, 15), "is not a network"),
        (HEAD + "version: 1\n", (3, 1), "first in line 1"),
        (HEAD + "? [a]\n: 1\n", (3, 3), "single word"),
        ("version: 1\nfacilitators: [{name: a}]\n", (2, 16), "facilitators[0].url is missing"),
        ("version: 1\nfacilitators: [{name: a b, url: http://h}]\n", (2, 23), "is not a name"),
        (HEAD + "default: {settle: {hold: 20s}}\nsettle: {hold: 20s}\n", (4, 1), "default.settle in line 3"),
        (HEAD + "default: {settlment_timeout: 60s}\n", (3, 11), "did you mean settlement_timeout?"),
        (HEAD + "default: {settlement_timeout: }\n", (3, 11), "nothing stands here"),
        (HEAD + "default: {minimum_amount: 0.001}\n", (3, 27), "has no unit; write dollars like $0.001"),
        (HEAD + "default: {minimum_amount: 1 USDC}\n", (3, 27), "is not an amount"),
        (HEAD + "default: {minimum_amount: }\n", (3, 11), "nothing stands here"),
        (HEAD + "preflight: {token_domian: warn}\n", (3, 13), "did you mean token_domain?"),
        (HEAD + "preflight: {token_domain: refused}\n", (3, 27), "write off, warn or refuse"),
        (HEAD + "preflight: {token_domain: {do: warn, mod: shadow}}\n", (3, 38), "did you mean mode?"),
        (HEAD + "hold: 25s\n", (3, 1), "it belongs in settle"),
        (HEAD + "networks:\n  base: {rpc: http://h}\n", (4, 15), "must be a list"),
        (HEAD + "networks:\n  solana: {rpc: [http://h]}\n", (4, 17), "only EVM networks"),
        (HEAD + "networks: {base: {tokens: {'0x83': {}}}}\n", (3, 36), "40 hex digits"),
        (HEAD + "networks: {base: {tokens: {'0x" + "8" * 40 + "': {dollar: true}}}}\n", (3, 74), "decimals"),
        (HEAD + "networks: {base: {settle: {hold_without_hash: 9s}}}\n", (3, 47), "shorter than hold (25s)"),
        (HEAD + "classify: {rules: []}\n", (3, 11), "default is missing"),
        (HEAD + "classify: {default: {settle: permanent}}\n", (3, 30), "law 1"),
        (HEAD + "act: {default: {failover: true}}\n", (3, 27), "law 6"),
        (HEAD + "act: {default: {retry: maybe}}\n", (3, 24), "neither true nor false"),
        (HEAD + "tests: [{name: a, given: {}, expects: {}}]\n", (3, 30), "did you mean expect?"),
        (
            HEAD + "tests: [{name: a, given: {facilitator: mian}, expect: {}}]\n",
            (3, 40),
            "did you mean main?",
        ),
        ("version: 1\nfacilitators:\n- name: main\nurl: http://h\n", (4, 1), "missing in facilitators[0]"),
        ("version: 1\nfacilitators:\n- {name: main, ulr: http://h}\n", (3, 16), "did you mean url?"),
        ("version: 1\nfacilitators:\n- {name: 7, url: http://h}\n", (3, 10), "put it in quotes"),
        ("version: 1\nfacilitators:\n  main: {url: http://h}\n", (3, 3), "must be a list"),
        ("verison: 1\n", (1, 1), "did you mean version?"),
        ("a: 1\n\tb: 2\n", (2, 1), "a tab stands here"),
        ("a:\n  - b: 1\n   c: 2\n", (3, 4), "indented unlike"),
        ("a:\n  - b:1\n    c: 2\n", (3, 6), "a blank follows the colon"),
        ("a: 'b\nc: 1\n", (3, 1), "opens in line 1 is never closed"),
        ("a:\n  b: [c\n  d: 1\n", (3, 4), "opens in line 2 is not closed"),
        ("a: *b\n", (1, 4), "no anchor"),
        ("a: @b\n", (1, 4), "put the value in quotes"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", (2, 5), "merge keys"),
        ("a: [1\n", (2, 1), "not YAML"),
        ("a: \x00", (1, 4), "the character U+0000 may not stand in a file"),
        (HEAD + "# a\r\nretry: \x07\n", (4, 8), "the character U+0007"),
        ("", (0, 0), "empty"),
        ("- 1\n", (1, 1), "a policy is a mapping"),
        ("a: 1\n---\nb: 1\n", (2, 1), "a second document begins here"),
        (HEAD + "default: {settlement_timeout: 0.0000001s}\n", (3, 31), "more digits than 12, and 6 after"),
        (HEAD + "default: {settlement_timeout: 10000000000000s}\n", (3, 31), "more digits than 12"),
        (HEAD + "act: {default: {retry: 0}}\n", (3, 24), "neither true nor false"),
        (
            HEAD + "networks: {base: {tokens: {'0x" + "8" * 40 + "': {decimals: true}}}}\n",
            (3, 85),
            "whole number",
        ),
        ("version: 1\nfacilitators: [{name: a, url: http://h, order: true}]\n", (2, 48), "whole number"),
        ("version: 1\nfacilitators: [{name: a, url: 'http://h?'}]\n", (2, 31), "query or fragment"),
        ("version: 1\nfacilitators: [{name: a, url: 'http://h/x#'}]\n", (2, 31), "query or fragment"),
        (
            HEAD + "act: {default: {}, rules: [{name: r, when: {network: []}, retry: false}]}\n",
            (3, 54),
            "would hold for",
        ),
    ],
)
def test_a_fault_is_named_with_place_and_cure(text: str, place: tuple[int, int], said: str) -> None:
    fault = refusal(text)
    assert said in fault.message
    assert (fault.line, fault.column) == place


def test_the_first_fault_in_the_file_is_named() -> None:
    assert refusal(HEAD + "retry: {attempts: 0}\ncircuit: {half_open_trials: 0}\n").line == 3


@pytest.mark.parametrize("section", ["facilitators", "routes"])
def test_a_name_stands_for_one_thing_only(section: str) -> None:
    key = "url" if section == "facilitators" else "upstream"
    fault = refusal(
        f"version: 1\n{section}:\n- {{name: a, {key}: http://h}}\n- {{name: A, {key}: http://i}}\n"
    )
    assert (fault.line, fault.column) == (4, 10)
    assert "also the name in line 3" in fault.message


@pytest.mark.parametrize(
    "name", ["verify", "Settle", "supported", "facilitators", "payments", "discovery", "healthz"]
)
def test_a_route_must_not_hide_a_path_of_the_guardian(name: str) -> None:
    assert "collides" in refusal(HEAD + f"routes: [{{name: {name}, upstream: http://h}}]").message


def test_a_route_must_not_hide_the_path_of_a_facilitator() -> None:
    text = "version: 1\nfacilitators: [{name: cdp, url: https://h/platform/v2/x402}]\n"
    fault = refusal(text + "routes: [{name: platform, upstream: http://h}]")
    assert "facilitator's URL" in fault.message
    assert fault.line == 3


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "h:80",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://[::1",
        "http://a b",
        "http://h/?k=1",
        "http://h/#x",
        "http://u:hunter2@h",
        "ws://h",
        "5",
        "[]",
        "http://hä",
    ],
)
@pytest.mark.parametrize(
    "where", ["facilitators: [{name: a, url: '%s'}]", "routes: [{name: a, upstream: '%s'}]"]
)
def test_facilitators_and_upstreams_are_plain_http_urls(where: str, url: str) -> None:
    fault = refusal("version: 1\n" + where % url)
    assert "hunter2" not in str(fault)
    assert fault.line == 2


@pytest.mark.parametrize("url", ["http://h", "https://u:hunter2@h/v2/key?x=1", "ws://h:1/", "wss://h"])
def test_an_rpc_url_may_hold_credentials(url: str) -> None:
    policy = parse_policy(HEAD + f"networks: {{base: {{rpc: ['{url}']}}}}")
    assert policy.network("eip155:8453").rpc == (url,)
    assert "hunter2" not in repr(policy)


def test_a_refused_rpc_url_is_not_printed() -> None:
    fault = refusal(HEAD + "networks: {base: {rpc: ['https://u:hunter2@h:99999/']}}")
    assert "hunter2" not in str(fault)
    assert "hunter2" not in str(fault.__cause__)


def test_a_slash_at_the_end_of_a_url_does_not_matter() -> None:
    assert (
        parse_policy("version: 1\nfacilitators: [{name: a, url: 'http://h/x/'}]").facilitators[0].url
        == "http://h/x"
    )


def test_anchors_may_be_used() -> None:
    text = HEAD + "networks: {base: &b {confirmations: 2}, base-sepolia: *b}"
    assert parse_policy(text).network("eip155:84532").confirmations == 2


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- a\n" * 200_000,
        "{a: " * 5_000,
        "- " * 5_000,
        "a: &a [*a]",
        "&a {b: *a}",
        BOMB,
        "a: " + "9" * 5_000,
        "a: *x",
        "a: !!python/object:os.system x",
        "%YAML 9.9\n---\na: 1",
        "\t",
        "a: &x 1\nb: &x 2",
        "<<: {a: 1}",
        "a: 1e999",
        "a: 0x" + "f" * 5000,
        "a: 2020-99-99",
        "? ",
        "\ud800",
    ],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    refusal(text)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match="larger than 1024 KiB"):
        load_policy(file)
    refusal("#" * (MAX_BYTES + 1))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"version: 1\n# \xe4\n")
    with pytest.raises(PolicyError, match=r"latin1.yaml:2:1: not UTF-8"):
        load_policy(tmp_path / "latin1.yaml")
    with pytest.raises(PolicyError, match="no such file"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyError, match="is a directory"):
        load_policy(tmp_path)
    with pytest.raises(PolicyError, match="not a path"):
        load_policy("a\0b")


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert load_policy(tmp_path / "p.yaml") == parse_policy(SMALLEST)


FACILITATOR = "version: 1\nfacilitators:\n- name: main\n  url: http://h\n"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("  pace: 50\n", (5, 9), "write it like 50 per s"),
        ("  pace: 50 per day\n", (5, 9), "unknown unit 'day'"),
        ("  max_settles: 0\n", (5, 16), "write 1 or more"),
        ("  max_settles:\n", (5, 3), "nothing stands here"),
        ("  profile: cpd\n", (5, 12), "did you mean cdp?"),
        ("  failover_to: [mian]\n", (5, 17), "there is no facilitator 'mian'; did you mean main?"),
        ("  failover_to: [main]\n", (5, 17), "names itself"),
        ("  rpc: [http://h]\n", (5, 3), "it belongs in networks"),
        ("  auth: {berer: {env: A}}\n", (5, 10), "did you mean bearer?"),
        ("  auth: {bearer: hunter2}\n", (5, 18), "a secret never stands in this file"),
        ("  auth: {bearer: {env: sk-hunter2}}\n", (5, 24), "not the name of an environment variable"),
        ("  auth: {bearer: {file: hunter2}}\n", (5, 25), "not the path of a file"),
        ("  settle: {hold: 2m}\n", (5, 18), "hold_without_hash (80s) is shorter than hold (120s)"),
    ],
)
def test_a_fault_in_a_facilitator_is_named_with_place_and_cure(
    text: str, place: tuple[int, int], said: str
) -> None:
    fault = refusal(FACILITATOR + text)
    assert said in fault.message
    assert (fault.line, fault.column) == place
    assert "hunter2" not in str(fault)


def test_a_profile_beside_the_policy_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "cdp.yaml").write_text("version: 1\nname: cdp\ntitle: ours\n")
    (tmp_path / "p.yaml").write_text(FACILITATOR + "  profile: cdp\n")
    assert load_policy(tmp_path / "p.yaml").profile_of("main").title == "ours"


def test_a_fault_in_a_profile_is_told_in_the_profiles_file(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("version: 1\nname: mine\ntitel: ours\n")
    (tmp_path / "p.yaml").write_text(FACILITATOR + "  profile: mine\n")
    with pytest.raises(PolicyError, match=r"mine.yaml:3:1: titel: unknown key; did you mean title\?"):
        load_policy(tmp_path / "p.yaml")


def test_names_of_rules_and_tests_stand_for_one_thing_each() -> None:
    rule = "{name: a, when: {operation: verify, reason: x}, class: permanent}"
    fault = refusal(HEAD + f"classify:\n  rules:\n  - {rule}\n  - {rule}\n  default: {{}}\n")
    assert (fault.line, "also the name in line 5" in fault.message) == (6, True)
    fault = refusal(HEAD + "tests:\n- {name: a, given: {}, expect: {}}\n- {name: a, given: {}, expect: {}}\n")
    assert (fault.line, "also the name in line 4" in fault.message) == (5, True)


@pytest.mark.parametrize(("word", "said"), [("on", True), ("Yes", True), ("off", False), ("NO", False)])
def test_a_flag_may_be_written_as_yaml_did_until_1_2(word: str, said: bool) -> None:
    """Whoever stops all spending in a hurry is understood."""
    policy = parse_policy(
        f"version: 1\nroutes: [{{name: a, upstream: 'http://h'}}]\nspending: {{stop: {word}}}\n"
    )
    assert policy.spending.stop is said
