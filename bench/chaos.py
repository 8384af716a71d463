"""Replicas under load while everything around them fails, at length: see docs/chaos.md.

    python bench/chaos.py --seed 1 --minutes 10 --replicas 3 --store redis|sentinel|sqlite

Prints the faults as they happen and a closing table. Exits with 1 on any violation. The logs, and all that
was heard, sent and recorded (facts.json), stay in the directory that is named at the end.
"""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from guardian.sandbox.chaos.trial import Terms, run


def main() -> int:
    parser = argparse.ArgumentParser(description="Proof by chaos")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--facilitators", type=int, default=2)
    parser.add_argument("--store", choices=("redis", "sentinel", "sqlite"), default="redis")
    parser.add_argument("--per-s", type=float, default=3.0, help="purchases begun per second")
    parser.add_argument(
        "--kill-every", type=float, default=4.0, help="seconds between two faults of a replica"
    )
    parser.add_argument("--directory", type=Path, default=None, help="for logs; default: a new one")
    options = parser.parse_args()
    if options.store == "sqlite" and options.replicas != 1:
        parser.error("--store sqlite is for one process: add --replicas 1")
    terms = Terms(
        seed=options.seed,
        seconds=options.minutes * 60,
        replicas=options.replicas,
        facilitators=options.facilitators,
        store=options.store,
        per_s=options.per_s,
        kill_every_s=options.kill_every,
    )
    directory = options.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {terms.seed}, {terms.replicas} replicas on {terms.store}, logs in {directory}", flush=True)
    begun = time.monotonic()
    outcome = run(terms, directory, lambda line: print(line, flush=True))
    print(f"\nseed {terms.seed}: {time.monotonic() - begun:.0f} s in all")
    for name, figure in outcome.table:
        print(f"{name:<72} {figure}")
    for violation in outcome.judgement.violations:
        print(f"VIOLATION {violation}")
    print(f"logs: {directory}")
    return 1 if outcome.judgement.violations else 0


if __name__ == "__main__":
    sys.exit(main())
