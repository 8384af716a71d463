"""`guardian serve`: two listeners in one loop, signals, and an orderly end."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from guardian.app import Guardian, build
from guardian.logs import configure
from guardian.policy.load import load_policy
from guardian.settings import Settings
from guardian.store.open import open_store

if TYPE_CHECKING:
    from uvicorn._types import ASGIApplication

HANDSHAKES_WAITING = 2048
MAX_CONNECTIONS = 10_000
KEEP_ALIVE_S = 75
"""Longer than the clients' own pools keep a connection, so that it is not us who closes one in use."""

ANSWERING_S = 10
"""Held callers are answered at once when draining; writing that takes no longer than this."""


class Listener(uvicorn.Server):
    """One listener whose signals are the process' business, not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`."""
        yield


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises PolicyError and OSError before anything listens."""
    configure(settings.log_level)
    guardian = build(load_policy(settings.policy), open_store(settings.store))
    config = _listener_config(guardian.data, settings.listen)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(guardian, Listener(config), _operations(guardian, settings)))


def _operations(guardian: Guardian, settings: Settings) -> Listener:
    return Listener(_listener_config(guardian.operations, settings.ops_listen))


def _listener_config(app: "ASGIApp | ASGIApplication", listen: str) -> uvicorn.Config:
    host, _, port = listen.rpartition(":")
    return uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=int(port),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=HANDSHAKES_WAITING,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ANSWERING_S,
        ws="none",
    )


async def _serve(guardian: Guardian, data: Listener, operations: Listener) -> None:
    await guardian.start()

    def stop() -> None:
        guardian.drain()
        data.should_exit = operations.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await asyncio.gather(data.serve(), operations.serve())
    finally:
        await guardian.stop()
