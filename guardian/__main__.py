"""Where the command `guardian` begins: what must hold before anything else is imported, and nothing more.

The imports take a good second. Ctrl-C in it is no fault to be shown with a traceback, and whoever started
this with a closed stdin, stdout or stderr (`>&-`, some supervisors) gave it none to read or write.
"""

import os
import sys

INTERRUPTED = 130


def main() -> int:
    """Run one command of sys.argv; the exit code."""
    try:
        _open_streams()
        from guardian.cli import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _open_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 -- until the end


if __name__ == "__main__":
    sys.exit(main())
