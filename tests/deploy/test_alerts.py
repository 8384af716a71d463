"""The alert rules: they are sound, use metrics that exist, and fire when they should and only then."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from guardian.settlement.classify import classify_reply
from guardian.settlement.verdict import Operation, Outcome
from guardian.telemetry import Telemetry
from tests.deploy.chart import EVERYTHING_ON, one, render, tool

SCRIPT = Path(__file__).with_name("alerts.test.yaml")
CURE = "`make helm-check` fetches it where apt is (Debian's package prometheus)"
ON = {"prometheusRule": EVERYTHING_ON["prometheusRule"]}
NETWORK = "eip155:8453"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules as a file for Prometheus."""
    path = tmp_path / "rules.yaml"
    spec = one(render(tmp_path, ON), "PrometheusRule")["spec"]
    with path.open("w") as file:
        YAML(typ="safe").dump(spec, file)
    return path


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [tool("promtool", CURE), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(rules: Path) -> None:
    promtool("check", "rules", rules)


def test_each_alert_fires_when_it_should_and_only_then(rules: Path) -> None:
    shutil.copy(SCRIPT, rules.parent)
    promtool("test", "rules", rules.parent / SCRIPT.name)


def test_every_alert_is_in_the_script(rules: Path) -> None:
    [group] = YAML(typ="safe").load(rules)["groups"]
    script = YAML(typ="safe").load(SCRIPT)
    fired = {
        case["alertname"]
        for test in script["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    quiet = {
        case["alertname"]
        for test in script["tests"]
        for case in test["alert_rule_test"]
        if not case.get("exp_alerts")
    }
    names = {rule["alert"] for rule in group["rules"]}
    assert fired == names
    assert quiet == names


def test_every_metric_of_the_rules_is_one_that_the_guardian_has(tmp_path: Path) -> None:
    [group] = one(render(tmp_path, ON), "PrometheusRule")["spec"]["groups"]
    used = {name for rule in group["rules"] for name in re.findall(r"\bguardian_\w+", rule["expr"])}
    shown = set(re.findall(r"^guardian_\w+", _metrics_page(), re.MULTILINE))
    assert used
    assert used <= shown


def test_the_rules_count_what_classification_calls_it() -> None:
    body = b'{"success":false,"errorReason":"unexpected_error","errorMessage":"unable to estimate gas"}'
    assert classify_reply(Operation.SETTLE, 500, body).rule == "text_estimation"
    late = b'{"error":"transaction_failed: transaction did not confirm in time: context deadline exceeded"}'
    assert classify_reply(Operation.SETTLE, 500, late).outcome is Outcome.SETTLEMENT


def _metrics_page() -> str:
    """/metrics after everything has happened once."""
    telemetry = Telemetry.create(service_version="0", otlp=False, networks=[NETWORK])
    try:
        telemetry.attempt("main", NETWORK, Operation.SETTLE, Outcome.SETTLEMENT, 1.0)
        telemetry.classified(Operation.SETTLE, Outcome.TRANSIENT, "text_estimation")
        telemetry.circuit_changed("main", NETWORK, Operation.SETTLE, "open")
        telemetry.open_settlements(NETWORK, 1)
        telemetry.watcher_head(NETWORK, 1)
        telemetry.policy_refused()
        telemetry.webhook_events("books", 0, 1)
        return telemetry.metrics_page()[0].decode()
    finally:
        telemetry.shutdown()
