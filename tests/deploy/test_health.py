"""`guardian health`, as a container's health check meets it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from guardian.cli import main

SICK = b'{"ready":false,"faults":{"store":"locked"}}'
NOBODY = "127.0.0.1:1"


class Sick(BaseHTTPRequestHandler):
    """Lives, and is not ready."""

    def do_GET(self) -> None:
        alive = self.path == "/healthz"
        self.send_response(200 if alive else 503)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}' if alive else SICK)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Sick) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_living_guardian_is_healthy_wherever_it_listens(
    host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", f"{host}:{port}")
    assert main(["health"]) == 0


def test_one_that_is_not_ready_says_why(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", f"127.0.0.1:{port}")
    assert main(["health", "--ready"]) == 1
    assert capsys.readouterr().out.strip() == SICK.decode()


def test_where_nobody_answers_it_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", NOBODY)
    assert main(["health"]) == 2
    assert "is guardian serve running?" in capsys.readouterr().err


def test_the_check_of_the_image_imports_next_to_nothing() -> None:
    script = (
        "import sys, guardian.commands.health;"
        "heavy = {'typer', 'pydantic', 'web3', 'starlette', 'httpx', 'asyncio'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("answers", [True, False])
def test_the_check_of_the_image_ends_with_0_or_1(answers: bool, port: int) -> None:
    address = f"127.0.0.1:{port}" if answers else NOBODY
    done = subprocess.run(
        [sys.executable, "-m", "guardian.commands.health"],
        env={"GUARDIAN_OPS_LISTEN": address},
        capture_output=True,
    )
    assert done.returncode == (0 if answers else 1)
