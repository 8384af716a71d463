"""The policies that are shipped load, and hold their own tests."""

from pathlib import Path

import pytest

from guardian.policy.cases import run_cases
from guardian.policy.load import load_policy

FILES = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))


def test_there_is_a_policy_to_start_from() -> None:
    assert "default.yaml" in [path.name for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_policy_loads_and_holds_its_tests(path: Path) -> None:
    policy = load_policy(path)
    assert policy.tests
    assert run_cases(policy) == []
