"""Fuzz one parser with atheris, for as long as you like: python -m bench.fuzz.run payment -max_total_time=600

Run by hand, from the root of the repository, where `pip install atheris` finds a wheel or a clang to build
with. Every argument after the target's name is libFuzzer's. Without atheris:
python -m bench.fuzz.run payment --plain 60 mutates the seeds blindly for 60 s.
"""

import importlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 1024


def main(arguments: list[str]) -> int:
    """0: nothing found."""
    name, *rest = arguments or [""]
    if rest[:1] == ["--plain"]:
        return plain(_targets(name), name, float(rest[1]) if len(rest) > 1 else 60.0)
    try:
        import atheris
    except ModuleNotFoundError:
        sys.stderr.write("atheris is not installed: pip install atheris, or add --plain 60\n")
        return 2
    with atheris.instrument_imports(include=["guardian"]):
        targets = _targets(name)
    return guided(atheris, targets, name, rest)


def _targets(name: str) -> Any:
    """The module of the targets, imported only now: atheris must see it happen."""
    targets = importlib.import_module("bench.fuzz.targets")
    if name not in targets.TARGETS:
        known = "|".join(targets.TARGETS)
        raise SystemExit(f"usage: python -m bench.fuzz.run {known} [--plain SECONDS | libFuzzer's options]")
    return targets


def guided(atheris: Any, targets: Any, name: str, options: list[str]) -> int:
    """With atheris, which sees what the code does and looks for new ways through it."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(targets.SEEDS[name]):
            Path(corpus, str(number)).write_bytes(seed)
        target = targets.TARGETS[name]
        arguments = [name, *options, f"-max_len={MOST_BYTES}", corpus]
        atheris.Setup(arguments, lambda data: targets.timed(target, data))
        atheris.Fuzz()
    return 0


def plain(targets: Any, name: str, seconds: float) -> int:
    """Blind mutation, the same for the same seed of the generator, which is printed."""
    seed = time.time_ns() % 2**32
    sys.stdout.write(f"{name}: seed {seed}\n")
    chance, runs, until = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = bytearray(chance.choice(targets.SEEDS[name]))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
        try:
            targets.timed(targets.TARGETS[name], bytes(data))
        except BaseException:
            sys.stdout.write(f"{bytes(data)!r}\n")
            raise
        runs += 1
    sys.stdout.write(f"{name}: {runs} runs, nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
