"""Settles per second through the guardian and through what else could stand in its place.

    python bench/settle.py [--seconds 4] [--rounds 3] [--connections 32] [--only guardian]

Each proxy runs alone on core 0; the stub facilitator and the load share core 1. The guardian writes
every payment durably to SQLite on disk before it sends; the others keep nothing. A line without a proxy
shows how much the load and the stub could do. Absolute figures belong to the machine, ratios count.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = 0, 1
START_S = 30.0

POLICY = """\
version: 1
facilitators:
  - name: stub
    url: {upstream}
"""

NGINX = """\
daemon off; worker_processes 1; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_buffer_size 16k;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
  keepalive_requests 100000000;
  upstream stub {{ server {address}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class CannotMeasure(Exception):
    """This competitor is not there or does not answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    scratch: Path
    stub_port: int
    seconds: float
    warmup_s: float
    rounds: int
    connections: int

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.stub_port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def guardian(bench: Bench, port: int) -> list[str]:
    policy = bench.scratch / "policy.yaml"
    policy.write_text(POLICY.format(upstream=bench.upstream))
    for old in bench.scratch.glob("guardian.db*"):
        old.unlink()
    command = [sys.executable, "-m", "guardian.cli", "serve", "--policy", str(policy)]
    command += ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{free_port()}"]
    return [*command, "--store", f"sqlite:///{bench.scratch}/guardian.db"]


def starlette_httpx(bench: Bench, port: int) -> list[str]:
    return [sys.executable, str(HERE / "proxies.py"), "httpx", str(port), bench.upstream]


def starlette_aiohttp(bench: Bench, port: int) -> list[str]:
    return [sys.executable, str(HERE / "proxies.py"), "aiohttp", str(port), bench.upstream]


def nginx(bench: Bench, port: int) -> list[str]:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise CannotMeasure("no nginx on this machine (apt install nginx)")
    conf = bench.scratch / "nginx.conf"
    conf.write_text(NGINX.format(scratch=bench.scratch, address=f"127.0.0.1:{bench.stub_port}", port=port))
    return [program, "-c", str(conf), "-p", str(bench.scratch), "-e", str(bench.scratch / "nginx.log")]


BARE = "Starlette + httpx.AsyncClient, bare"
COMPETITORS: dict[str, tuple[str, Callable[[Bench, int], list[str]]]] = {
    "guardian": ("**guardian serve**, durable SQLite", guardian),
    "httpx": (BARE, starlette_httpx),
    "aiohttp": ("Starlette + aiohttp, bare", starlette_aiohttp),
    "nginx": ("nginx proxy_pass", nginx),
}


@contextmanager
def pinned(command: list[str], core: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command on one core, in a process group of its own, ended with the block."""
    # httpx and aiohttp obey proxy variables, which would measure something else.
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environ,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise CannotMeasure("did not start: " + (" | ".join(last) or f"exit status {process.poll()}"))


def load(bench: Bench, port: int) -> dict[str, Any]:
    numbers = [port, bench.connections, bench.warmup_s, bench.seconds]
    command = ["taskset", "-c", str(LOAD_CORE), sys.executable, str(HERE / "load.py"), *map(str, numbers)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=bench.seconds + bench.warmup_s + 60
    )
    if done.returncode != 0:
        raise CannotMeasure("the load failed: " + done.stderr.strip()[-300:])
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failures"] or not found["rate"]:
        raise CannotMeasure(f"{found['failures']} wrong answers, the first: {found['first_failure']}")
    return found


def measure(bench: Bench, name: str) -> dict[str, Any]:
    port, log = free_port(), bench.scratch / f"{name}.log"
    with pinned(COMPETITORS[name][1](bench, port), SERVER_CORE, log) as process:
        wait_until_listening(port, process, log)
        return load(bench, port)


def middle(rounds: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in ("rate", "p50_ms", "p99_ms")}


def measure_all(bench: Bench, names: list[str]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Round by round over all, so that a slow minute of the machine hits everybody."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in [*names, "none"]}
    skipped: dict[str, str] = {}
    for number in range(bench.rounds):
        for name in rounds:
            if name in skipped:
                continue
            print(f"round {number + 1}/{bench.rounds}: {name}", file=sys.stderr, flush=True)
            try:
                rounds[name].append(load(bench, bench.stub_port) if name == "none" else measure(bench, name))
            except CannotMeasure as reason:
                skipped[name] = str(reason)
    return {name: middle(found) for name, found in rounds.items() if found and name not in skipped}, skipped


def print_table(found: dict[str, dict[str, float]], skipped: dict[str, str], bench: Bench) -> None:
    base = found.get("httpx")
    print(f"\n| {bench.connections} connections | settles/s | × bare httpx | p50 ms | p99 ms |")
    print("|---|--:|--:|--:|--:|")
    titles = {name: title for name, (title, _) in COMPETITORS.items()}
    titles["none"] = "no proxy: what the load and the stub can do"
    for name, row in sorted(found.items(), key=lambda item: -item[1]["rate"]):
        ratio = f"{row['rate'] / base['rate']:.1f}" if base else "–"
        print(
            f"| {titles[name]} | {row['rate']:,.0f} | {ratio} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} |"
        )
    for name, reason in skipped.items():
        print(f"\nNot measured: {titles[name]}: {reason}")
    arguments = [Path(sys.argv[0]).as_posix(), *sys.argv[1:]]
    print(f"\n`python {shlex.join(arguments)}`: median of {bench.rounds} rounds of {bench.seconds:g} s,")
    print(f"proxy on core {SERVER_CORE}, stub facilitator and load on core {LOAD_CORE}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", choices=COMPETITORS, action="append", help="may be given several times")
    arguments = parser.parse_args()
    if shutil.which("taskset") is None or len(os.sched_getaffinity(0)) < 2:
        print("bench: needs Linux with taskset (util-linux) and two cores", file=sys.stderr)
        return 1
    # Beside the project and not in /tmp, which may be memory: the store's durability is part of the price.
    cache = HERE.parent / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="bench-") as scratch:
        bench = Bench(
            scratch=Path(scratch),
            stub_port=free_port(),
            seconds=arguments.seconds,
            warmup_s=arguments.warmup,
            rounds=arguments.rounds,
            connections=arguments.connections,
        )
        log = bench.scratch / "stub.log"
        with pinned([sys.executable, str(HERE / "stub.py"), str(bench.stub_port)], LOAD_CORE, log) as stub:
            wait_until_listening(bench.stub_port, stub, log)
            found, skipped = measure_all(bench, arguments.only or list(COMPETITORS))
    print_table(found, skipped, bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
