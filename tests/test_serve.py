"""`guardian serve` as whoever starts it sees it: exit codes, the one line of a refusal, the log."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from guardian.errors import PolicyError
from guardian.policy.load import parse_policy
from guardian.serve import bind, refuse_itself

ROOT = Path(__file__).parents[1]
POLICY = """\
version: 1
facilitators: [{name: main, url: "http://127.0.0.1:1"}]
networks: {"eip155:10": {}}
"""
ANY_PORT = "127.0.0.1:0"
FLAGS = {
    "--policy": "policy.yaml",
    "--listen": ANY_PORT,
    "--ops-listen": ANY_PORT,
    "--store": "memory://",
    "--log-level": "INFO",
}


def variables(flags: dict[str, str]) -> dict[str, str]:
    """The same settings, as environment variables."""
    return {"GUARDIAN_" + flag.removeprefix("--").replace("-", "_").upper(): flags[flag] for flag in flags}


class Running:
    """A guardian that has said `started`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        self.process = process
        self.log = []
        self.ports: dict[str, int] = {}
        for line in process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["message"] == "listening":
                self.ports[self.log[-1]["flag"]] = self.log[-1]["port"]
            if self.log[-1]["message"] == "started":
                break

    def get(self, flag: str, path: str) -> int:
        """The status of a request to one of the two listeners."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.ports[flag], timeout=30)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def end(self, number: signal.Signals) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        self.log += map(json.loads, self.process.communicate(timeout=30)[1].splitlines())
        return self.process.returncode


def command(flags: dict[str, str]) -> list[str]:
    return [sys.executable, "-m", "guardian.cli", "serve", *(part for flag in flags.items() for part in flag)]


def environment(extra: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GUARDIAN_")}
    return inherited | {"PYTHONPATH": str(ROOT)} | extra


@contextlib.contextmanager
def guardian(at: Path, flags: dict[str, str], environ: dict[str, str] | None = None) -> Iterator[Running]:
    """A guardian that runs in the directory `at`."""
    (at / "policy.yaml").write_text(POLICY)
    with subprocess.Popen(
        command(flags), cwd=at, env=environment(environ or {}), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def refusal(at: Path, flags: dict[str, str], environ: dict[str, str] | None = None) -> str:
    """What a guardian that cannot start says, besides its log."""
    (at / "policy.yaml").write_text(POLICY)
    done = subprocess.run(
        command(flags),
        cwd=at,
        env=environment(environ or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    *log, said = done.stderr.splitlines()
    assert all(line.startswith("{") for line in log)
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_orderly_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with guardian(tmp_path, FLAGS) as running:
        assert running.get("--ops-listen", "/healthz") == 200
        assert running.end(number) == 0
    assert running.log[-1]["message"] == "stopped"


def test_variables_say_the_same_as_flags(tmp_path: Path) -> None:
    with guardian(tmp_path, {}, variables(FLAGS | {"--store": "sqlite:///chosen.db"})) as running:
        assert running.get("--ops-listen", "/healthz") == 200
        assert set(running.ports) == {"--listen", "--ops-listen"}
        assert (tmp_path / "chosen.db").exists()
        assert running.end(signal.SIGTERM) == 0


def test_what_deserves_a_look_is_warned_about_at_start(tmp_path: Path) -> None:
    with guardian(tmp_path, FLAGS) as running:
        warned = [line["message"] for line in running.log if line["level"] == "warning"]
    assert "a facilitator does not answer /supported" in warned
    assert warned[0].startswith("networks.eip155:10: no settlement_timeout chosen")
    assert warned[1].startswith("networks.eip155:10: no rpc")


@pytest.mark.parametrize(("flag", "by_variable"), [("--listen", False), ("--ops-listen", True)])
def test_an_occupied_port_is_one_line_and_exit_code_2(tmp_path: Path, flag: str, by_variable: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = FLAGS | {flag: place, "--store": "sqlite:///untouched.db"}
        said = refusal(tmp_path, {}, variables(flags)) if by_variable else refusal(tmp_path, flags)
    cure = "is in use by another process; stop that one, or choose another port"
    assert said == f"guardian: {flag}: {place} {cure}"
    assert not (tmp_path / "untouched.db").exists()


def test_a_store_that_another_guardian_holds_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    flags = FLAGS | {"--store": "sqlite:///shared.db"}
    with guardian(tmp_path, flags) as running:
        said = refusal(tmp_path, flags)
        assert running.end(signal.SIGTERM) == 0
    assert said.startswith("guardian: shared.db")
    assert said.endswith("in use by another guardian; stop it first, or give this one its own file")


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "choose a port from 1024"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "is no address of this machine"),
        (OSError(errno.EAFNOSUPPORT, "Not supported"), "cannot be listened at: Not supported"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "has an unknown host"),
    ],
)
def test_a_place_that_cannot_be_had_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, fault: OSError, cure: str
) -> None:
    def refused(*_: object, **__: object) -> socket.socket:
        raise fault

    monkeypatch.setattr(socket, "create_server", refused)
    with contextlib.ExitStack() as ports, pytest.raises(PolicyError) as caught:
        bind("--listen", "127.0.0.1:80", ports)
    assert str(caught.value).startswith("--listen: 127.0.0.1:80 ")
    assert cure in str(caught.value)


def test_a_host_that_is_no_host_name_is_refused() -> None:
    with contextlib.ExitStack() as ports, pytest.raises(PolicyError, match="unknown host"):
        bind("--listen", f"{'a' * 70}.example:80", ports)


def test_a_guardian_is_not_its_own_facilitator() -> None:
    with contextlib.ExitStack() as ports:
        callers = bind("--listen", ANY_PORT, ports)
        port = callers[0].getsockname()[1]
        for url in (f"http://127.0.0.1:{port}", f"http://localhost:{port}/x402"):
            policy = parse_policy(f"version: 1\nfacilitators: [{{name: a, url: '{url}'}}]\n")
            with pytest.raises(PolicyError, match=r"facilitators\[0\].url: .* the facilitator's own URL"):
                refuse_itself(policy, callers)
        elsewhere = f"version: 1\nfacilitators: [{{name: a, url: 'http://10.0.0.1:{port}'}}]\n"
        refuse_itself(parse_policy(elsewhere), callers)
        callers = bind("--listen", "127.0.0.2:0", ports)
        port = callers[0].getsockname()[1]
        beside = f"version: 1\nfacilitators: [{{name: a, url: 'http://127.0.0.1:{port}'}}]\n"
        refuse_itself(parse_policy(beside), callers)
