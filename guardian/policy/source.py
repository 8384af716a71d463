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

CALM_S = 0.2
CALM_LOOKS = 10
"""A changed file is read once nobody has written to it for a moment: half a file may be a sound policy too.
Who never stops writing is read in the end."""

TICK_S = 2.0
"""The clocks of file systems tick as slowly as this: in one tick, the next write may look like the last."""

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


@dataclass(frozen=True, slots=True)
class State:
    """What changes with the content, and is cheap to look at. newest_s: Unix seconds of the last change, by
    the time that nobody can set, unlike that of the content."""

    facts: tuple[tuple[object, ...], ...]
    newest_s: float


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
        self.judged = ""
        """Hash of what was last read or refused; empty where it changed meanwhile: to be read again."""

    def read(self) -> Loaded:
        """The policy in it, read while nobody wrote; raises PolicyError."""
        self.judged = ""
        for _ in range(READINGS):
            before, fault = self.hash(), None
            try:
                policy = load_policy(self.path)
            except PolicyError as error:
                fault = error
            if self.hash() == before:
                self.judged = before
                if fault is not None:
                    raise fault
                return Loaded(policy, before, self._clock())
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

    async def changes(self) -> AsyncIterator[str]:
        """The new hash each time a look finds another content than was judged last; for ever."""
        looked: State | None = None
        while True:
            state = await asyncio.to_thread(self._state)
            if state != looked or self._may_have_ticked(state) or not self.judged:
                if state != looked:
                    state = await self._calm(state)
                looked, found = state, await asyncio.to_thread(self.hash)
                if found != self.judged:
                    yield found
            await asyncio.sleep(self._look_every_s)

    async def _calm(self, state: State) -> State:
        """What stands once nobody writes any more."""
        for _ in range(CALM_LOOKS):
            await asyncio.sleep(min(CALM_S, self._look_every_s))
            before, state = state, await asyncio.to_thread(self._state)
            if state == before:
                break
        return state

    def _may_have_ticked(self, state: State) -> bool:
        """Whether a file was written to so lately that one more write need not show."""
        return state.newest_s > self._clock() - TICK_S

    def _files(self) -> list[Path]:
        profiles = sorted(self.path.parent.joinpath(PROFILES).glob("*.yaml"))
        return [self.path, *profiles[:MAX_PROFILES]]

    def _state(self) -> State:
        """How the files stand now."""
        facts: list[tuple[object, ...]] = []
        newest_s = 0.0
        for path in self._files():
            try:
                stat = os.stat(path)
            except OSError as fault:
                facts.append((path.name, fault.errno))
            else:
                newest_s = max(newest_s, stat.st_ctime)
                written = (stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size)
                facts.append((path.name, stat.st_dev, stat.st_ino, *written))
        return State(tuple(facts), newest_s)
