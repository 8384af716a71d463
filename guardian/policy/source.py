"""The policy file on disk: what it holds now, and when to look again. File I/O only, no decisions.

A change is noticed by looking: at what the path leads to, so that a symlink swapped under it is seen
(Kubernetes does that to a ConfigMap's files), and as well on file systems that tell of no changes. To be
told of every change in the directory would cost more than all looks: the database may lie in it.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from guardian.errors import PolicyError
from guardian.policy.load import load_policy
from guardian.policy.model import Policy
from guardian.policy.tree import MAX_BYTES

LOOK_EVERY_S = 1.0
"""Between two looks, each of which is a few calls of stat."""

MAX_PROFILES = 256
"""Files looked at beside the policy; an operator has a handful."""

READINGS = 3
"""A file that was written to while it was read is read again."""

PROFILES = "profiles"
"""Directory beside the policy file with the operator's own facilitator profiles."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy as it was read. hash: SHA-256 over the file and the profiles beside it; at: Unix seconds."""

    policy: Policy
    hash: str
    at: float


class PolicyFile:
    """One policy file."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._look_every_s = look_every_s

    def read(self) -> Loaded:
        """The policy in it, read while nobody wrote; raises PolicyError."""
        for _ in range(READINGS):
            before = self.hash()
            loaded = Loaded(load_policy(self.path), before, self._clock())
            if self.hash() == before:
                return loaded
        raise PolicyError("the file changes while it is read; write it in one step", file=str(self.path))

    def hash(self) -> str:
        """What tells one content from another; also of a file that cannot be read."""
        digest = hashlib.sha256()
        for path in self._files():
            try:
                with open(path, "rb") as stream:
                    content = stream.read(MAX_BYTES + 1)
            except OSError as fault:
                content = repr(fault.errno).encode()
            digest.update(b"%s %d\n" % (path.name.encode(errors="surrogateescape"), len(content)))
            digest.update(content)
        return digest.hexdigest()

    async def changes(self, seen: str) -> AsyncIterator[str]:
        """The new hash each time the content is another one than `seen`, then than the last; for ever."""
        looked: object = None
        while True:
            state = await asyncio.to_thread(self._state)
            if state != looked:
                looked, found = state, await asyncio.to_thread(self.hash)
                if found != seen:
                    seen = found
                    yield found
            await asyncio.sleep(self._look_every_s)

    def _files(self) -> list[Path]:
        profiles = sorted(self.path.parent.joinpath(PROFILES).glob("*.yaml"))
        return [self.path, *profiles[:MAX_PROFILES]]

    def _state(self) -> list[tuple[object, ...]]:
        """What changes with the content, cheaply."""
        found: list[tuple[object, ...]] = []
        for path in self._files():
            try:
                stat = os.stat(path)
            except OSError as fault:
                found.append((path.name, fault.errno))
            else:
                found.append((path.name, stat.st_mtime_ns, stat.st_ino, stat.st_size, stat.st_dev))
        return found
