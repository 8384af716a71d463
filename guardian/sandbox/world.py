"""The whole payment world as real processes: chain, facilitators, sellers, guardian; nothing mocked.

    with World(mining=1.0, facilitators=1) as world:                     # also: async with
        guardian = world.start_guardian(world.policy_text())             # python -m guardian.cli serve …
        seller = world.start_seller("py", guardian.url)                  # "py" | "ts" | "v1"
        world.facilitators[0].control("pending_200", times=1)
        purchase = buy_now(seller.url, world.chain.new_payer())

Each process logs to world.directory/<name>.log. Leaving the block ends exactly these processes.
"""

import asyncio
import json
import socket
import subprocess
import tempfile
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from eth_account import Account

from guardian.sandbox.chain import Chain, Mining
from guardian.sandbox.node import SandboxError, node_command, npm_packages
from guardian.sandbox.process import Process, python_module
from guardian.sandbox.seller_v1.venv import v1_python

SellerKind = Literal["py", "ts", "v1"]
HERE = Path(__file__).parent
HTTP_TIMEOUT_S = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http_json(url: str, body: object | None = None) -> Any:
    """GET, or POST when there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as reply:
        return json.load(reply)


@dataclass(slots=True)
class RunningFacilitator:
    """A facilitator process; the modes are described at the top of facilitator.py."""

    name: str
    url: str
    process: Process
    command: list[str]

    def control(self, mode: str, **options: Any) -> dict[str, Any]:
        """One fault, e.g. control("http_503", when="after", times=1); control("ok") clears."""
        return dict(http_json(f"{self.url}/_control", {"mode": mode, **options}))

    def script(self, *faults: dict[str, Any]) -> dict[str, Any]:
        """Several faults, used up in order."""
        return dict(http_json(f"{self.url}/_control", list(faults)))

    def counters(self) -> dict[str, Any]:
        return dict(http_json(f"{self.url}/_control"))

    def broadcasts(self, nonce: str) -> list[str]:
        """The transactions that went out for this authorization."""
        return list(self.counters()["payments"].get(nonce.lower(), {}).get("broadcasts", []))

    def start(self) -> None:
        """Again, on the same port, after a crash or stop(). The counters go on; the SDK's memory is empty."""
        self.process = Process(self.name, self.command, self.process.log)
        self.wait_ready()

    def wait_ready(self) -> None:
        self.process.wait_http(f"{self.url}/_control")

    def restart(self) -> None:
        self.process.stop()
        self.start()


@dataclass(slots=True)
class RunningSeller:
    """A seller process. url is the paid resource."""

    kind: SellerKind
    url: str
    pay_to: str
    process: Process
    counts_url: str

    def counts(self) -> dict[str, int]:
        """worked: the handler ran; delivered: answered 200; refused: 402 (the demand too) or another."""
        return dict(http_json(self.counts_url))

    def deliveries(self) -> int:
        return self.counts()["delivered"]


@dataclass(slots=True)
class RunningGuardian:
    """A guardian process. kill() is a crash; start() goes on with the same store, policy and ports."""

    url: str
    ops_url: str
    store: str
    policy: Path
    process: Process

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()

    def start(self) -> None:
        self.process = Process(self.process.name, self.process.command, self.process.log)
        self.wait_ready()

    def wait_ready(self) -> None:
        self.process.wait_http(f"{self.ops_url}/healthz")

    def get(self, path: str) -> Any:
        """JSON of the operations port, e.g. get("/api/settlements")."""
        return http_json(self.ops_url + path)


Running = RunningFacilitator | RunningSeller | RunningGuardian


class World:
    """Chain and facilitators run once the block is entered; sellers and guardians are started on demand."""

    def __init__(
        self,
        *,
        mining: Mining = 1.0,
        facilitators: int = 1,
        confirmation_timeout_s: float = 20.0,
        directory: Path | None = None,
    ) -> None:
        self._mining = mining
        self._facilitator_count = facilitators
        self._confirmation_timeout_s = confirmation_timeout_s
        self.directory = directory or Path(tempfile.mkdtemp(prefix="sandbox-"))
        self.facilitators: list[RunningFacilitator] = []
        self.sellers: list[RunningSeller] = []
        self.guardians: list[RunningGuardian] = []
        self._stack = ExitStack()
        self.chain: Chain  # there from __enter__ on

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.chain = self._stack.enter_context(
                Chain(mining=self._mining, log=self.directory / "anvil.log")
            )
            for number in range(self._facilitator_count):
                self._start_facilitator(f"facilitator-{number}")
            for facilitator in self.facilitators:
                facilitator.wait_ready()
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_all()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop_all)

    def _stop_all(self) -> None:
        """Sellers first, the chain last; whatever one of them does, all are ended."""
        running: list[Running] = [*self.facilitators, *self.guardians, *self.sellers]
        for one in running:
            self._stack.callback(_stop, one)
        self._stack.close()

    def _start_facilitator(self, name: str) -> None:
        port = free_port()
        command = python_module(
            "guardian.sandbox.facilitator",
            *("--port", str(port), "--rpc", self.chain.url, "--network", self.chain.network),
            *("--confirmation-timeout", str(self._confirmation_timeout_s)),
            *("--events", str(self.directory / f"{name}.events")),
        )
        process = Process(name, command, self.directory / f"{name}.log")
        self.facilitators.append(RunningFacilitator(name, f"http://127.0.0.1:{port}", process, command))

    def start_seller(
        self, kind: SellerKind, facilitator_url: str, *, price: str = "$0.01", pay_to: str | None = None
    ) -> RunningSeller:
        """A seller that settles through this URL: the guardian's, or a facilitator's for comparison."""
        port, pay_to = free_port(), pay_to or str(Account.create().address)
        options = [
            "--facilitator",
            facilitator_url,
            "--port",
            str(port),
            "--pay-to",
            pay_to,
            "--price",
            price,
        ]
        command, cwd = _seller_command(kind)
        name = f"seller-{kind}-{len(self.sellers)}"
        process = Process(name, [*command, *options], self.directory / f"{name}.log", cwd=cwd)
        base = f"http://127.0.0.1:{port}"
        seller = RunningSeller(kind, f"{base}/weather", pay_to, process, f"{base}/_deliveries")
        self.sellers.append(seller)
        process.wait_http(seller.counts_url)
        return seller

    def start_guardian(self, policy_text: str, *, store: str | None = None) -> RunningGuardian:
        """`guardian serve` with this policy; the store defaults to a SQLite file in the world's directory."""
        number = len(self.guardians)
        policy = self.directory / f"guardian-{number}.yaml"
        policy.write_text(policy_text)
        store = store or f"sqlite:///{self.directory / f'guardian-{number}.db'}"
        listen, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        command = python_module(
            *("guardian.cli", "serve", "--policy", str(policy), "--listen", listen),
            *("--ops-listen", ops, "--store", store),
        )
        process = Process(f"guardian-{number}", command, self.directory / f"guardian-{number}.log")
        guardian = RunningGuardian(f"http://{listen}", f"http://{ops}", store, policy, process)
        self.guardians.append(guardian)
        guardian.wait_ready()
        return guardian

    def policy_text(
        self,
        *,
        settlement_timeout: str = "10s",
        post_sign_delay: str = "0s",
        finality: str = "2",
        network_lines: tuple[str, ...] = (),
        lines: tuple[str, ...] = (),
    ) -> str:
        """A policy for this world. network_lines go below the network, lines to the end, both as YAML."""
        facilitators = [f"  - name: f{n}\n    url: {one.url}" for n, one in enumerate(self.facilitators)]
        network = [
            f"  {self.chain.network}:",
            f"    rpc: [{self.chain.url}]",
            f"    settlement_timeout: {settlement_timeout}",
            f"    post_sign_delay: {post_sign_delay}",
            f"    finality: {finality}",
            *(f"    {line}" for line in network_lines),
        ]
        return "\n".join(["version: 1", "facilitators:", *facilitators, "networks:", *network, *lines]) + "\n"


def _stop(running: Running) -> None:
    running.process.stop()


def _seller_command(kind: SellerKind) -> tuple[list[str], Path | None]:
    if kind == "py":
        return python_module("guardian.sandbox.seller_py"), None
    if kind == "v1":
        return [str(v1_python()), str(HERE / "seller_v1" / "server.py")], None
    where = typescript_directory()
    return [*node_command(), str(where / "server.mjs")], where


def typescript_directory() -> Path:
    """The TypeScript seller and buyer beside their installed packages (where node looks for them)."""
    packages = json.loads((HERE / "seller_ts" / "package.json").read_text())["dependencies"]
    where = npm_packages("seller-ts", packages)
    for source in (HERE / "seller_ts").glob("*.mjs"):
        if not (where / source.name).is_file() or (where / source.name).read_text() != source.read_text():
            (where / source.name).write_text(source.read_text())
    return where


def buy_ts(url: str, key: str, *, timeout_s: float = 120.0) -> dict[str, Any]:
    """One purchase with the TypeScript client: {status, body, receipt, nonces, error}."""
    where = typescript_directory()
    command = [*node_command(), "buyer.mjs", "--url", url, "--key", key, "--timeout", str(timeout_s)]
    ran = subprocess.run(
        command, cwd=where, capture_output=True, text=True, timeout=timeout_s + 30, check=False
    )
    if ran.returncode != 0:
        raise SandboxError(f"the TypeScript buyer ended with {ran.returncode}: {ran.stderr[-800:]}")
    return dict(json.loads(ran.stdout.splitlines()[-1]))
