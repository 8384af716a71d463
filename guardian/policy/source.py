"""The policy file on disk: what it holds now, and when to look again. File I/O only, no decisions.

A change is noticed in the directory, not in the file: editors replace files, and Kubernetes swaps a
symlink (`..data`) under a ConfigMap's files.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from guardian.errors import PolicyError
from guardian.policy.load import load_policy
from guardian.policy.model import Policy
from guardian.policy.tree import MAX_BYTES

LOOK_EVERY_S = 5.0
"""Where the directory tells of no changes (some network mounts) the file is looked at this often."""

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

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock

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
        for path in (self.path, *sorted(self.path.parent.joinpath(PROFILES).glob("*.yaml"))):
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
        async for _ in self._occasions():
            found = await asyncio.to_thread(self.hash)
            if found != seen:
                seen = found
                yield found

    async def _occasions(self) -> AsyncIterator[None]:
        """Each time it may be worth looking."""
        yield
        while True:
            directories = [self.path.parent, self.path.parent / PROFILES]
            try:
                async for _ in awatch(
                    *(one for one in directories if one.is_dir()),
                    watch_filter=None,
                    recursive=False,
                    rust_timeout=int(LOOK_EVERY_S * 1000),
                    yield_on_timeout=True,
                ):
                    yield
            except OSError:  # the directory went away, or the system has no watch left
                await asyncio.sleep(LOOK_EVERY_S)
                yield
