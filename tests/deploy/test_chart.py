"""The chart: what it renders is valid, loses no payment, shows no secret, and refuses what would."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from guardian import app, serve
from guardian.policy.load import parse_policy
from tests.deploy.chart import (
    CHART,
    EVERYTHING_OFF,
    EVERYTHING_ON,
    NAME,
    REDIS,
    SQLITE,
    Object,
    Refused,
    guardian_container,
    helm,
    one,
    pods,
    render,
    render_host,
    write_values,
)

VOLUME: Object = {"store": {"sqlite": {"volume": {"persistentVolumeClaim": {"claimName": "records"}}}}}
REPLICAS: Object = {"replicas": 3}
AUTOSCALED: Object = {"autoscaling": {"enabled": True}}

Render = Callable[..., list[Object]]

FORMS: dict[str, Render] = {"standalone": render, "sidecar": render_host}
STORES = {"sqlite": [SQLITE, VOLUME], "redis": [REDIS]}
EXTENTS: Object = {"off": EVERYTHING_OFF, "default": {}, "on": EVERYTHING_ON}

OLDEST_AND_NEWEST = ("1.29", "1.34")
CRDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}  # their schemas are not Kubernetes' own


@pytest.fixture(scope="module", params=product(FORMS, STORES, EXTENTS), ids="-".join)
def every_form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Either form with either store, and with nothing, the defaults and everything switched on."""
    form, store, extent = request.param
    objects = FORMS[form](tmp_path_factory.mktemp("chart"), *STORES[store], EXTENTS[extent])
    assert objects
    return objects


def test_every_form_is_valid_kubernetes(every_form: list[Object]) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="there is no kubernetes-validate: `make helm-check` installs it"
    )
    for each, version in product(every_form, OLDEST_AND_NEWEST):
        if each["kind"] not in CRDS:
            kubernetes_validate.validate(each, version, strict=True)


def test_every_form_runs_without_rights_on_a_read_only_root(every_form: list[Object]) -> None:
    [pod] = pods(every_form)
    container = guardian_container(pod)
    assert {mount["name"] for mount in container["volumeMounts"]} <= _volumes(pod, every_form)
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"]["memory"]


def test_nothing_is_mounted_with_sub_path_so_that_policies_and_secrets_are_updated(
    every_form: list[Object],
) -> None:
    [pod] = pods(every_form)
    mounts = guardian_container(pod)["volumeMounts"]
    assert not [mount for mount in mounts if "subPath" in mount or "subPathExpr" in mount]
    assert [mount["mountPath"] for mount in mounts if mount["name"] == "guardian-policy"] == ["/etc/guardian"]


@pytest.mark.parametrize("form", [render, render_host])
def test_a_secret_is_only_ever_referred_to(form: Render, tmp_path: Path) -> None:
    objects = form(tmp_path, REDIS, EVERYTHING_ON)
    assert not [each for each in objects if each["kind"] == "Secret"]
    [pod] = pods(objects)
    env = {each["name"]: each for each in guardian_container(pod)["env"]}
    for name, secret, key in (
        ("GUARDIAN_STORE", "guardian-redis", "url"),
        ("FACILITATOR_TOKEN", "facilitator", "token"),
    ):
        assert env[name] == {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
    assert "secretKeyRef" not in json.dumps([each for each in objects if each["kind"] == "ConfigMap"])
    assert "redis://" not in json.dumps(objects)


def test_the_image_is_named_by_digest_where_there_is_one(tmp_path: Path) -> None:
    [pod] = pods(render(tmp_path, EVERYTHING_ON))
    assert guardian_container(pod)["image"] == "payment-guardian@sha256:" + "0" * 64


def test_sqlite_is_one_pod_with_a_volume_that_stays(tmp_path: Path) -> None:
    workload = one(render(tmp_path, SQLITE), "StatefulSet")
    assert workload["spec"]["replicas"] == 1
    [claim] = workload["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "guardian-store"
    assert set(workload["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def test_redis_is_a_deployment_that_keeps_its_capacity_while_rolling(tmp_path: Path) -> None:
    workload = one(render(tmp_path, REDIS, REPLICAS), "Deployment")
    assert workload["spec"]["replicas"] == 3
    assert workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_an_autoscaled_deployment_leaves_the_number_of_pods_alone(tmp_path: Path) -> None:
    objects = render(tmp_path, REDIS, AUTOSCALED)
    assert "replicas" not in one(objects, "Deployment")["spec"]
    target = one(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", NAME)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param([SQLITE, REPLICAS], "replicas: more than 1", id="several pods on one file"),
        pytest.param([SQLITE, AUTOSCALED], "autoscaling.enabled", id="autoscaling on one file"),
        pytest.param([{"store": {"kind": "redis"}}], "urlSecret: missing", id="redis without a URL"),
        pytest.param([SQLITE, {"mode": "sidecar"}], "sqlite.volume: missing", id="sidecar without a volume"),
        pytest.param([{"store": {"redis": {"url": "redis://u:p@h"}}}], "url", id="a store URL as a value"),
        pytest.param([{"env": {"API_KEY": "x"}}], "API_KEY", id="a key as a value"),
        pytest.param([{"env": {"GUARDIAN_STORE": "x"}}], "GUARDIAN_STORE", id="a store beside the store"),
        pytest.param([{"replica": 2}], "replica", id="an unknown value"),
        pytest.param([{"shutdown": {"gracePeriodSeconds": 29}}], "gracePeriodSeconds", id="too little grace"),
        pytest.param(
            [{"policy": {"existingSecret": "a", "existingConfigMap": "b"}}], "keep one", id="two policies"
        ),
        pytest.param(
            [REDIS, {"autoscaling": {"enabled": True, "minReplicas": 9}}],
            "minReplicas",
            id="more than the most",
        ),
        pytest.param(
            [{"mode": "sidecar"}, REDIS, {"serviceMonitor": {"enabled": True}}],
            "podLabels",
            id="unknown pods",
        ),
    ],
)
def test_values_that_would_lose_or_show_something_are_refused(
    values: list[Object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=said):
        render(tmp_path, *values)


def test_the_pod_is_given_the_time_that_draining_takes(tmp_path: Path) -> None:
    [pod] = pods(render(tmp_path))
    waits = guardian_container(pod)["lifecycle"]["preStop"]["exec"]["command"][-1]
    [delay] = re.findall(r"sleep\((\d+)\)", waits)
    assert int(delay) + serve.ANSWERING_S + app.DRAIN_S < pod["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("form", [render, render_host])
def test_health_and_readiness_are_asked_at_the_operations_port(form: Render, tmp_path: Path) -> None:
    [pod] = pods(form(tmp_path, REDIS))
    container = guardian_container(pod)
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "guardian-ops"}
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "guardian-ops"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "guardian-ops"}
    assert {"name": "guardian-ops", "containerPort": 9402, "protocol": "TCP"} in container["ports"]


def test_a_sidecar_serves_only_its_own_pod_and_outlives_the_application(tmp_path: Path) -> None:
    objects = render_host(tmp_path, REDIS)
    [pod] = pods(objects)
    container = guardian_container(pod)
    assert {"name": "GUARDIAN_LISTEN", "value": "127.0.0.1:8402"} in container["env"]
    assert container["restartPolicy"] == "Always"
    assert container in pod["spec"]["initContainers"]
    assert {each["kind"] for each in objects} == {"Deployment", "ConfigMap"}


def test_a_sidecar_of_an_old_cluster_is_a_plain_container(tmp_path: Path) -> None:
    [pod] = pods(render_host(tmp_path, REDIS, {"sidecar": {"native": False}}))
    assert "restartPolicy" not in guardian_container(pod)


def test_the_operations_port_never_has_the_service_that_callers_have(tmp_path: Path) -> None:
    services = [each for each in render(tmp_path, EVERYTHING_ON) if each["kind"] == "Service"]
    by_name = {each["metadata"]["name"]: each["spec"] for each in services}
    assert [port["targetPort"] for port in by_name[NAME]["ports"]] == ["guardian"]
    assert by_name[f"{NAME}-ops"]["type"] == "ClusterIP"


def test_the_network_policy_lets_in_whom_the_values_name_and_out_where_the_guardian_must(
    tmp_path: Path,
) -> None:
    spec = one(render(tmp_path, REDIS, EVERYTHING_ON), "NetworkPolicy")["spec"]
    callers, operators = spec["ingress"]
    assert callers["from"] == EVERYTHING_ON["networkPolicy"]["callers"]
    assert [port["port"] for port in callers["ports"]] == ["guardian"]
    assert operators["from"] == EVERYTHING_ON["networkPolicy"]["operators"]
    assert [port["port"] for port in operators["ports"]] == ["guardian-ops"]
    out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    assert out == {53, 443, 6379, 8545}


def test_the_monitor_finds_the_operations_service(tmp_path: Path) -> None:
    objects = render(tmp_path, EVERYTHING_ON)
    monitor = one(objects, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    found = [
        each for each in objects if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in found] == [f"{NAME}-ops"]
    assert monitor["endpoints"][0]["port"] == found[0]["spec"]["ports"][0]["name"]


def test_the_sidecars_monitor_finds_the_pods_that_hold_it(tmp_path: Path) -> None:
    objects = render_host(tmp_path, REDIS, EVERYTHING_ON)
    monitor = one(objects, "PodMonitor")["spec"]
    [pod] = pods(objects)
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert monitor["podMetricsEndpoints"][0]["port"] in [
        port["name"] for port in guardian_container(pod)["ports"]
    ]


def test_every_selector_finds_the_pods(tmp_path: Path) -> None:
    objects = render(tmp_path, REDIS, EVERYTHING_ON)
    [pod] = pods(objects)
    labels = pod["metadata"]["labels"].items()
    assert one(objects, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    assert one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    assert one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    for service in (each for each in objects if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
    for spread in pod["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels


def test_a_change_of_the_policy_restarts_nothing(tmp_path: Path) -> None:
    first = list(pods(render(tmp_path)))
    other = "version: 1\nfacilitators:\n  - {name: other, url: https://example.org}\n"
    assert list(pods(render(_next(tmp_path), {"policy": {"text": other}}))) == first


def test_the_default_policy_is_sound(tmp_path: Path) -> None:
    parse_policy(one(render(tmp_path), "ConfigMap")["data"]["policy.yaml"])


def test_own_profiles_lie_beside_the_policy(tmp_path: Path) -> None:
    objects = render(tmp_path, EVERYTHING_ON)
    [pod] = pods(objects)
    [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == "guardian-policy"]
    paths = {item["path"]: item["key"] for item in volume["configMap"]["items"]}
    assert paths == {"policy.yaml": "policy.yaml", "profiles/own.yaml": "profile-own.yaml"}
    assert set(paths.values()) == set(one(objects, "ConfigMap")["data"])


@pytest.mark.parametrize(
    ("place", "volume"),
    [
        ("existingConfigMap", {"name": "guardian-policy", "configMap": {"name": "mine"}}),
        ("existingSecret", {"name": "guardian-policy", "secret": {"secretName": "mine"}}),
    ],
)
def test_a_policy_that_is_there_already_is_used_as_it_is(place: str, volume: Object, tmp_path: Path) -> None:
    objects = render(tmp_path, {"policy": {place: "mine"}})
    [pod] = pods(objects)
    assert volume in pod["spec"]["volumes"]
    assert not [each for each in objects if each["kind"] == "ConfigMap"]


@pytest.mark.parametrize("values", [[], [SQLITE, EVERYTHING_OFF], [REDIS, AUTOSCALED, EVERYTHING_ON]])
def test_helm_lint_has_nothing_to_say(values: list[Object], tmp_path: Path) -> None:
    helm("lint", "--strict", CHART, "--values", write_values(tmp_path, *values))


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    yaml = YAML(typ="safe")
    values = yaml.load(CHART / "values.yaml")
    schema = json.loads((CHART / "values.schema.json").read_text())
    readme = (CHART / "README.md").read_text()
    for path in _leaves(values):
        assert f"`{'.'.join(path)}`" in readme, path
        node = schema
        for key in path:
            assert key in node["properties"], path
            node = node["properties"][key]
            if "properties" not in node:  # Kubernetes' own, or one of the definitions
                break


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = YAML(typ="safe").load(CHART / "Chart.yaml")
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    else:
        yield path


def _volumes(pod: Object, objects: list[Object]) -> set[str]:
    """The names that mounts can refer to."""
    claims = [claim for each in objects for claim in each.get("spec", {}).get("volumeClaimTemplates", [])]
    return {each["name"] for each in pod["spec"]["volumes"]} | {claim["metadata"]["name"] for claim in claims}


def _next(directory: Path) -> Path:
    """A directory of its own for a second rendering."""
    below = directory / "second"
    below.mkdir()
    return below
