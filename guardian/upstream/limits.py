"""How much and how long anything may be between the guardian and an upstream. Data only."""

from dataclasses import dataclass

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one exchange with an upstream.

    head_s: from the request's last byte to the head of the reply; idle_s: between two pieces of a body,
    in either direction; total_s: from the first byte to the last.
    """

    connect_s: float = 5.0  # two lost SYNs (1 s, 3 s) fit in
    place_s: float = 5.0  # waiting for one of the connections
    head_s: float = 150.0  # sellers wait up to 90 s for their facilitator, and their handler works too
    idle_s: float = 300.0  # event streams send something every 15 to 60 s
    total_s: float = 6 * 3600.0
    head_bytes: int = 256 * 1024  # a demand in a header may hold output schemas of some 10 kB
    request_bytes: int = 4 * GIB
    reply_bytes: int = 64 * GIB
    connections: int = 512  # event streams keep theirs
    kept_s: float = 4.0  # below the 5 s after which uvicorn and Node close


HELD_BYTES = 256 * 1024
"""Of a reply, this much waits in memory for its reader before the upstream is slowed down."""
