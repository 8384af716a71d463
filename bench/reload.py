"""What a caller of /settle notices while the policy is reloaded again and again: it should be nothing.

    python bench/reload.py [--seconds 6] [--rounds 3] [--connections 32] [--every 0.25]

The same load on the same guardian, with the policy file untouched and with the file rewritten all the
time, round by round. Core 0 is the guardian's, core 1 the load's and the stub facilitator's.
"""

import argparse
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

import settle

STORE_LINE = "settle: {{hold: {hold}s}}\n"


class Rewriting:
    """Rewrites a policy file until it is left, each time with another value."""

    def __init__(self, policy: Path, every_s: float) -> None:
        self.times = 0
        self._policy = policy
        self._text = policy.read_text()
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Rewriting":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            self.times += 1
            fresh = self._policy.with_suffix(".new")
            fresh.write_text(self._text + STORE_LINE.format(hold=20 + self.times % 5))
            fresh.rename(self._policy)


def measured(bench: settle.Bench, every_s: float | None) -> dict[str, Any]:
    """One round; with the number of policies that were in force."""
    port, log = settle.free_port(), bench.scratch / "guardian.log"
    command = settle.guardian(bench, port)
    ops = command[command.index("--ops-listen") + 1]
    with settle.pinned(command, settle.SERVER_CORE, log) as process:
        settle.wait_until_listening(port, process, log)
        if every_s is None:
            return settle.load(bench, port) | {"versions": 1}
        with Rewriting(bench.scratch / "policy.yaml", every_s):
            found = settle.load(bench, port)
        with urllib.request.urlopen(f"http://{ops}/api/policy", timeout=10) as reply:
            return found | {"versions": settle.json.load(reply)["version"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--every", type=float, default=0.25)
    chosen = parser.parse_args()
    cache = settle.HERE.parent / ".cache"
    cache.mkdir(exist_ok=True)
    print("| policy | policies in force | settles/s | failed | p50 ms | p99 ms | worst ms |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=cache, prefix="bench-") as scratch:
        bench = settle.Bench(
            Path(scratch), settle.free_port(), chosen.seconds, 1.0, chosen.rounds, chosen.connections
        )
        stub = [sys.executable, str(settle.HERE / "stub.py"), str(bench.stub_port)]
        with settle.pinned(stub, settle.LOAD_CORE, bench.scratch / "stub.log") as process:
            settle.wait_until_listening(bench.stub_port, process, bench.scratch / "stub.log")
            for _ in range(chosen.rounds):
                for title, every_s in (("untouched", None), ("rewritten", chosen.every)):
                    row = measured(bench, every_s)
                    print(
                        f"| {title} | {row['versions']} | {row['rate']:,.0f} | {row['failures']} "
                        f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['max_ms']:.1f} |",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
