"""The venv in which the v1 seller runs: x402 1.0.0 and 2.x are one package name, so they cannot share one."""

import subprocess
import sys
from pathlib import Path

from guardian.sandbox.node import INSTALL_TIMEOUT_S, SandboxError, cache_dir, file_lock

PACKAGES = ("x402==1.0.0", "fastapi>=0.115", "uvicorn>=0.38")


def v1_python() -> Path:
    """The venv's interpreter; created on the first use. Raises SandboxError with pip's last lines."""
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    target = cache_dir() / f"seller-v1-py{version}"
    python, done = target / "bin" / "python", target / "installed"
    if done.is_file():
        return python
    with file_lock(target.with_suffix(".lock")):
        if not done.is_file():
            _run([sys.executable, "-m", "venv", "--clear", str(target)])
            _run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
            done.write_text("\n".join(PACKAGES))
    return python


def _run(command: list[str]) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise SandboxError(f"{' '.join(command)} took longer than {INSTALL_TIMEOUT_S:.0f} s") from exc
    if ran.returncode != 0:
        raise SandboxError(f"{' '.join(command)} failed: {(ran.stderr or ran.stdout)[-800:]}")
