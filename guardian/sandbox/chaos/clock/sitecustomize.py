"""A wall clock that can be stepped from outside: put this directory on PYTHONPATH and name a file.

GUARDIAN_SANDBOX_CLOCK names a file that holds seconds to add. The monotonic clock is left alone, as
by a real step.
"""

import os
import time

if _file := os.environ.get("GUARDIAN_SANDBOX_CLOCK"):
    _real, _seen = time.time, [0.0, 0.0]  # when the file was read last, and what stood in it

    def _stepped() -> float:
        if time.monotonic() - _seen[0] > 0.2:
            try:
                with open(str(_file)) as held:
                    _seen[:] = [time.monotonic(), float(held.read() or 0)]
            except (OSError, ValueError):
                _seen[0] = time.monotonic()
        return _real() + _seen[1]

    time.time = _stepped
