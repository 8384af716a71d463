"""A policy file in force: read again when it changes or on demand, refused as a whole when it is bad.

What a policy consists of is swapped by `Guardian.adopt`, in one step; here is decided when, and what is
told of it. Requests under way keep the policy that they began with.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from guardian.errors import PolicyError
from guardian.flow.parts import log
from guardian.policy.model import Policy
from guardian.policy.source import Loaded, PolicyFile
from guardian.telemetry import Telemetry

Adopt = Callable[[Policy], Awaitable[int]]
"""Puts a policy in force; its number, counting up. Raises PolicyError and changes nothing."""


Fits = Callable[[Policy], None]
"""Raises PolicyError for a policy that this process cannot obey where it runs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is on disk and not in force. at: Unix seconds."""

    fault: PolicyError
    hash: str
    at: float


class Reloading:
    """The policy file of one guardian."""

    def __init__(
        self, file: PolicyFile, loaded: Loaded, adopt: Adopt, telemetry: Telemetry, fits: Fits
    ) -> None:
        """loaded: what is in force already, as number 1."""
        self._file = file
        self._loaded = loaded
        self._number = 1
        self._refused: Refused | None = None
        self._adopt = adopt
        self._fits = fits
        self._telemetry = telemetry
        self._reading = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the file from now on."""
        self._watching = asyncio.create_task(self._watch(), name="policy file")

    async def stop(self) -> None:
        """Watch it no more; idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    async def reload(self, *, asked: bool = False) -> bool:
        """Read the file and put it in force if it is another one; False when it is refused. asked: by a
        person, who is told again why."""
        async with self._reading:
            hash = await asyncio.to_thread(self._file.hash)
            if hash == self._loaded.hash:
                return self._as_before()
            try:
                # In a thread: a large file takes a tenth of a second to read, and nobody is to wait for it.
                loaded = await asyncio.to_thread(self._file.read)
                self._fits(loaded.policy)
            except PolicyError as fault:
                return self._refuse(fault, self._file.judged or hash, asked=asked)
            try:
                self._number = await self._adopt(loaded.policy)
            except PolicyError as fault:
                self._file.judged = ""  # a secret is missing: it may be mounted later, and the file stays
                return self._refuse(fault, loaded.hash, asked=asked)
            self._loaded, self._refused = loaded, None
            log.info("policy in force", extra={"number": self._number, "hash": loaded.hash[:12]})
            return True

    async def read_again(self) -> None:
        """Somebody asked for it (SIGHUP): the log has the outcome."""
        log.info("reading the policy file again")
        await self.reload(asked=True)

    def state(self) -> dict[str, Any]:
        """What is in force and what was refused, for `GET /api/policy`."""
        refused = self._refused
        return {
            "version": self._number,
            "file": str(self._file.path),
            "hash": self._loaded.hash,
            "loadedAt": self._loaded.at,
            "refused": refused
            and {
                "message": refused.fault.message,
                "file": refused.fault.file,
                "line": refused.fault.line,
                "column": refused.fault.column,
                "hash": refused.hash,
                "at": refused.at,
            },
        }

    async def _watch(self) -> None:
        async for _ in self._file.changes():
            try:
                await self.reload()
            except Exception:  # the edge of the task: the file must stay watched whatever it holds
                log.exception("the policy file could not be read; the one in force stays")

    def _as_before(self) -> bool:
        """The file holds what is in force already; a refused one was taken back."""
        self._file.judged = self._loaded.hash
        if self._refused:
            self._refused = None
            self._telemetry.policy_restored()
            log.info("policy file as in force again", extra={"number": self._number})
        return True

    def _refuse(self, fault: PolicyError, hash: str, *, asked: bool) -> bool:
        if (
            self._refused
            and not asked
            and (hash, str(fault)) == (self._refused.hash, str(self._refused.fault))
        ):
            return False  # tried again, and nothing has changed
        self._refused = Refused(fault, hash, time.time())
        self._telemetry.policy_refused()
        log.error(
            "policy refused, the one in force stays",
            extra={"why": str(fault), "number": self._number, "hash": hash[:12]},
        )
        return False
