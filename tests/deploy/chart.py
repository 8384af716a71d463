"""The chart as tests use it: rendered by helm, read back as objects. Skips, with the reason, without helm."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "payment-guardian"
TOOLS = ROOT / ".cache" / "tools" / "bin"
KUBERNETES = "1.31.0"
NAME = "x-payment-guardian"

Object = dict[str, Any]

REDIS: Object = {"store": {"kind": "redis", "redis": {"urlSecret": "guardian-redis"}}}
SQLITE: Object = {"store": {"kind": "sqlite"}}
EVERYTHING_OFF: Object = {
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"create": False},
    "runAsUser": None,
    "fsGroup": None,
}
EVERYTHING_ON: Object = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": ["registry"],
    "policy": {"profiles": {"own": "version: 1\nname: own\ntitle: Our own\n"}},
    "secrets": {
        "env": [{"name": "FACILITATOR_TOKEN", "secret": "facilitator", "key": "token"}],
        "envFrom": ["more"],
        "files": [{"secret": "facilitator", "path": "/run/secrets/facilitator"}],
    },
    "env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "payments"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "sidecar": {"podLabels": {"app": "seller"}},
    "networkPolicy": {
        "callers": [{"podSelector": {"matchLabels": {"app": "seller"}}}],
        "operators": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egress": {
            "redis": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
            "extra": [{"ports": [{"port": 8545}]}],
        },
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
}

HOST_TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: seller}
spec:
  selector: {matchLabels: {app: seller}}
  template:
    metadata: {labels: {app: seller}}
    spec:
      {{- $guardian := index .Subcharts "payment-guardian" }}
      securityContext: {fsGroup: 10402}
      terminationGracePeriodSeconds: 60
      initContainers:
        {{- include "payment-guardian.sidecar" $guardian | nindent 8 }}
      containers:
        - {name: seller, image: "seller:1"}
      volumes:
        {{- include "payment-guardian.sidecarVolumes" $guardian | nindent 8 }}
"""


class Refused(Exception):
    """helm refused the values."""


@cache
def tool(name: str, cure: str) -> str:
    """The path of a program; skips the test where there is none."""
    found = shutil.which(name, path=os.pathsep.join([str(TOOLS), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"there is no {name}: {cure}")
    return found


def helm(*arguments: str | Path) -> str:
    """What helm prints; raises Refused."""
    path = tool("helm", "`make helm-check` fetches it where Go is installed")
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def merged(*values: Mapping[str, Any]) -> Object:
    """Later ones go before earlier ones, key by key."""
    result: Object = {}
    for one in values:
        for key, value in one.items():
            before = result.get(key)
            both = isinstance(value, dict) and isinstance(before, dict)
            result[key] = merged(before, value) if both and before is not None else value
    return result


def write_values(directory: Path, *values: Mapping[str, Any]) -> Path:
    """One values file of all of them."""
    path = directory / "values.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump(merged(*values), file)
    return path


def read_objects(text: str) -> list[Object]:
    """Every object of a stream."""
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


def render(directory: Path, *values: Mapping[str, Any]) -> list[Object]:
    """The standalone form, or what the chart alone renders as a sidecar."""
    file = write_values(directory, *values)
    return read_objects(helm("template", "x", CHART, "--kube-version", KUBERNETES, "--values", file))


def render_host(directory: Path, *values: Mapping[str, Any]) -> list[Object]:
    """A seller's chart that includes the sidecar."""
    host = directory / "seller"
    (host / "templates").mkdir(parents=True)
    shutil.copytree(CHART, host / "charts" / "payment-guardian")
    (host / "Chart.yaml").write_text("apiVersion: v2\nname: seller\nversion: 1.0.0\n")
    (host / "templates" / "deployment.yaml").write_text(HOST_TEMPLATE)
    file = write_values(directory, {"payment-guardian": merged({"mode": "sidecar"}, *values)})
    return read_objects(helm("template", "x", host, "--kube-version", KUBERNETES, "--values", file))


def one(objects: list[Object], kind: str) -> Object:
    """The only object of a kind."""
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def pods(objects: list[Object]) -> Iterator[Object]:
    """The pod templates."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["spec"]["template"]


def guardian_container(pod: Object) -> Object:
    """The guardian's container of a pod template."""
    spec = pod["spec"]
    [found] = [
        each
        for each in [*spec["containers"], *spec.get("initContainers", [])]
        if each["name"] == "payment-guardian"
    ]
    return found
