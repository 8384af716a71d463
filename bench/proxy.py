"""What the agent plane adds to an unpaid request, beside nginx in the same run; and its memory under 200 MB.

    python bench/proxy.py [--requests 4000] [--seconds 3] [--connections 32] [--megabytes 200]

Latency: one connection to each of upstream, nginx and guardian, asked in turn, so that a slow moment of the
machine hits all three. Rate: many connections at once, one proxy after the other. Memory: the guardian's
resident size while a long body goes down, goes down to a slow reader, and goes up.
The proxies share core 0; upstream and load share core 1. Absolute figures belong to the machine.
"""

import argparse
import asyncio
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop
from settle import HERE, LOAD_CORE, NGINX, SERVER_CORE, free_port, pinned, wait_until_listening
from settle import Bench as SettleBench
from settle import nginx as nginx_program

POLICY = """\
version: 1
routes:
  - name: shop
    upstream: http://127.0.0.1:{port}
"""
MEGABYTE = 1_000_000
SAMPLE_S = 0.02
SLOW_S = 0.02
"""Pause of a slow reader after each quarter of a megabyte: some 12 MB/s."""


class Connection:
    """A kept connection that asks the way a client does and waits for the whole answer."""

    def __init__(self, port: int, path: str) -> None:
        self._line = socket.create_connection(("127.0.0.1", port))
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = (
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n"
            "accept-encoding: gzip, deflate\r\nuser-agent: bench\r\nconnection: keep-alive\r\n\r\n"
        ).encode()

    def ask(self) -> float:
        """Seconds until the answer was whole."""
        started = time.perf_counter()
        self._line.sendall(self._request)
        heard = b""
        while (end := heard.find(b"\r\n\r\n")) < 0 or len(heard) < end + 1004:
            heard += self._line.recv(65536)
        took = time.perf_counter() - started
        if not heard.startswith(b"HTTP/1.1 200") or len(heard) != end + 1004:
            raise SystemExit(f"bench: a wrong answer: {heard[:300]!r}")
        return took


def latencies(ports: dict[str, tuple[int, str]], requests: int) -> dict[str, list[float]]:
    """Milliseconds by name, sorted; the first tenth is warmth."""
    lines = {name: Connection(port, path) for name, (port, path) in ports.items()}
    found: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(requests + requests // 10):
        for name, line in lines.items():
            took = line.ask() * 1e3
            if number >= requests // 10:
                found[name].append(took)
    return {name: sorted(times) for name, times in found.items()}


def rate(port: int, path: str, connections: int, seconds: float) -> float:
    """Requests per second over this many connections, each asking again once it has its answer."""
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n\r\n".encode()
    whole = re.compile(rb"\r\n\r\nx{1000}$")
    done = 0

    class Caller(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.heard = transport, b""
            transport.write(request)  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            nonlocal done
            self.heard += data
            if whole.search(self.heard):
                done, self.heard = done + 1, b""
                self.transport.write(request)  # type: ignore[attr-defined]

    async def run() -> float:
        loop = asyncio.get_running_loop()
        callers = [(await loop.create_connection(Caller, "127.0.0.1", port))[0] for _ in range(connections)]
        await asyncio.sleep(0.5)
        before, started = done, time.perf_counter()
        await asyncio.sleep(seconds)
        result = (done - before) / (time.perf_counter() - started)
        for transport in callers:
            transport.abort()
        return result

    return float(uvloop.run(run()))


class Memory:
    """Resident megabytes of a process, looked at until the block is left."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.before = self.peak = self._now()

    def _now(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", self._status.read_text())
        return int(found[1]) / 1024 if found else 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(SAMPLE_S):
                self.peak = max(self.peak, self._now())

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()


def download(port: int, size: int, pause_s: float) -> None:
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"GET /shop/large/{size} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        heard, head = 0, b""
        while b"\r\n\r\n" not in head:
            head += line.recv(4096)
        heard = len(head) - head.index(b"\r\n\r\n") - 4
        while heard < size and (part := line.recv(262_144)):
            heard += len(part)
            time.sleep(pause_s)
    if heard != size:
        raise SystemExit(f"bench: {heard} of {size} bytes came down")


def upload(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(f"PUT /shop/up HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode())
        piece, left = b"x" * 262_144, size
        while left:
            line.sendall(piece[:left])
            left -= min(left, len(piece))
        if not line.recv(65536).startswith(b"HTTP/1.1 200"):
            raise SystemExit("bench: the upload was not answered")


def guardian_command(scratch: Path, upstream: int, port: int) -> list[str]:
    policy = scratch / "policy.yaml"
    policy.write_text(POLICY.format(port=upstream))
    command = [sys.executable, "-m", "guardian.cli", "serve", "--policy", str(policy), "--store", "memory://"]
    return [*command, "--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{free_port()}"]


def nginx_command(scratch: Path, upstream: int, port: int) -> list[str]:
    bench = SettleBench(scratch, upstream, 0, 0, 0, 0)
    command = nginx_program(bench, port)
    conf = NGINX.format(scratch=scratch, address=f"127.0.0.1:{upstream}", port=port)
    (scratch / "nginx.conf").write_text(
        conf.replace("location / { proxy_pass http://stub;", "location /shop/ { proxy_pass http://stub/;")
    )
    return command


def middle(times: list[float]) -> float:
    return statistics.median(times)


def print_latency(found: dict[str, list[float]]) -> None:
    direct = middle(found["upstream"])
    added = {name: middle(times) - direct for name, times in found.items()}
    print("\n| unpaid GET, 1 kB, one connection | p50 ms | p99 ms | added p50 ms | × nginx's |")
    print("|---|--:|--:|--:|--:|")
    for name, times in found.items():
        ratio = f"{added[name] / added['nginx']:.1f}" if name != "upstream" else "–"
        late = times[len(times) * 99 // 100]
        print(f"| {name} | {middle(times):.3f} | {late:.3f} | {added[name]:.3f} | {ratio} |")
    verdict = "under" if added["guardian"] < 1 else "NOT UNDER"
    print(f"\nThe guardian adds {added['guardian']:.3f} ms in the median: {verdict} 1 ms.")


def print_rates(rates: dict[str, float], connections: int) -> None:
    print(f"\n| {connections} connections | requests/s | × nginx |\n|---|--:|--:|")
    for name, per_s in rates.items():
        print(f"| {name} | {per_s:,.0f} | {per_s / rates['nginx']:.2f} |")


def print_memory(pid: int, port: int, megabytes: int) -> None:
    size = megabytes * MEGABYTE
    cases: dict[str, Callable[[], None]] = {
        "down": lambda: download(port, size, 0),
        "down, slow reader": lambda: download(port, size, SLOW_S),
        "up": lambda: upload(port, size),
    }
    print(f"\n| {megabytes} MB | MB/s | resident before MB | peak MB | grown MB |\n|---|--:|--:|--:|--:|")
    for name, run in cases.items():
        memory, started = Memory(pid), time.perf_counter()
        with memory.watched():
            run()
        per_s = megabytes / (time.perf_counter() - started)
        grown = memory.peak - memory.before
        print(f"| {name} | {per_s:,.0f} | {memory.before:.0f} | {memory.peak:.0f} | {grown:.1f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--megabytes", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        shop_port, nginx_port, guardian_port = free_port(), free_port(), free_port()
        started = {}
        for name, core, port, command in (
            ("shop", LOAD_CORE, shop_port, [sys.executable, str(HERE / "shop.py"), str(shop_port)]),
            ("nginx", SERVER_CORE, nginx_port, nginx_command(scratch, shop_port, nginx_port)),
            ("guardian", SERVER_CORE, guardian_port, guardian_command(scratch, shop_port, guardian_port)),
        ):
            log = scratch / f"{name}.log"
            started[name] = stack.enter_context(pinned(command, core, log))
            wait_until_listening(port, started[name], log)
        ports = {
            "upstream": (shop_port, "/x"),
            "nginx": (nginx_port, "/shop/x"),
            "guardian": (guardian_port, "/shop/x"),
        }
        print_latency(latencies(ports, arguments.requests))
        rates = {
            name: rate(port, path, arguments.connections, arguments.seconds)
            for name, (port, path) in ports.items()
            if name != "upstream"
        }
        print_rates(rates, arguments.connections)
        print_memory(started["guardian"].pid, guardian_port, arguments.megabytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
