"""`guardian health`: does the guardian of this machine live, is it ready? For containers' health checks.

Runs every few seconds, also as `python -m guardian.commands.health`, so it imports next to nothing.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from typing import Final

from guardian.errors import GuardianError
from guardian.settings import read_ops_listen

TIMEOUT_S: Final = 4.0
MAX_BYTES: Final = 64 * 1024
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def check_health(environ: Mapping[str, str], *, ready: bool = False) -> tuple[bool, str]:
    """(whether it is well, what it said); raises GuardianError where nobody answers."""
    host, _, port = read_ops_listen(environ).rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_ANY.get(host, host), int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        reply = connection.getresponse()
        return reply.status == 200, reply.read(MAX_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as fault:
        why = getattr(fault, "strerror", None) or str(fault)[:100] or type(fault).__name__
        cure = "is guardian serve running? GUARDIAN_OPS_LISTEN says where to ask"
        message = f"health: no answer at {host}:{port} ({why}); {cure}"
        raise GuardianError(message) from fault
    finally:
        connection.close()


def main() -> int:
    """The exit code: 0 alive, 1 not."""
    try:
        well, _said = check_health(os.environ)
    except GuardianError as fault:
        sys.stderr.write(f"guardian: {fault}\n")
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
