"""The demo leaves no process behind. That it plays to its end is seen with `make demo` (a minute)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

LIMIT_S = 60.0


def _descendants(mark: str) -> list[int]:
    """The living processes with this mark in their environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the children by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_all_its_processes(number: signal.Signals, tmp_path: Path) -> None:
    mark = f"DEMO_TEST_MARK={tmp_path}"
    env = {**os.environ, "DEMO_TEST_MARK": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "guardian.cli", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )
    with demo:
        assert demo.stdout is not None
        until = time.monotonic() + LIMIT_S
        for line in demo.stdout:
            if "waits for a block" in line or time.monotonic() > until:
                break
        assert len(_descendants(mark)) >= 4  # demo, chain, facilitator, seller
        demo.send_signal(number)
        assert "interrupted" in demo.stdout.read()
        assert demo.wait(LIMIT_S) == 130
    assert _descendants(mark) == []
