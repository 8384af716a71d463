"""Child processes of the sandbox: each with its own log file, each ended by its own process id and no other.

No business of any particular child here: chain.py and world.py say what to start and when it is ready.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from guardian.sandbox.node import SandboxError

READY_LIMIT_S = 60.0  # a cold Python with web3 takes 5 s on a busy machine
TERMINATE_LIMIT_S = 8.0
POLL_S = 0.05


class Process:
    """One started child. `log` holds its stdout and stderr."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._child.poll()

    def wait_until(self, ready: Callable[[], bool], limit_s: float = READY_LIMIT_S) -> None:
        """Raises SandboxError with the end of the log when the child dies or the limit passes."""
        until = time.monotonic() + limit_s
        while not ready():
            if not self.alive:
                raise SandboxError(
                    f"{self.name} ended with {self.returncode} before it was ready:\n{self.log_tail()}"
                )
            if time.monotonic() > until:
                raise SandboxError(f"{self.name} was not ready after {limit_s:.0f} s:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def wait_http(self, url: str, limit_s: float = READY_LIMIT_S) -> None:
        """Until the URL answers with anything below 500."""
        self.wait_until(lambda: answers(url), limit_s)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, characters: int = 1500) -> str:
        return self.log_text()[-characters:]

    def kill(self) -> None:
        """SIGKILL, as a crash; waits until it is gone."""
        if self.alive:
            self._child.kill()
        self._child.wait(TERMINATE_LIMIT_S)

    def wait(self, limit_s: float = TERMINATE_LIMIT_S) -> int:
        """The exit code of a child that ends by itself; subprocess.TimeoutExpired if it does not."""
        return self._child.wait(limit_s)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; quiet when it has already ended."""
        if not self.alive:
            return
        self._child.terminate()
        try:
            self._child.wait(TERMINATE_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as reply:
            return bool(reply.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def python_module(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
