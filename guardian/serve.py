"""`guardian serve`: two listeners in one loop, signals, and an orderly end."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from guardian.app import Guardian, build
from guardian.errors import PolicyError
from guardian.flow.parts import log
from guardian.logs import configure
from guardian.policy.explain import warnings
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


COLLECT_AFTER = 20_000
"""New objects before the collector looks for cycles: some hundred settles, a few MB."""


MAX_HEAD_BYTES = 512 * 1024
"""Payments of some 20 kB may travel in a header; the parser has no limit of its own, so one caller
could fill the memory."""


class BoundedHead(HttpToolsProtocol):
    """Answers 400 and closes once a request's head is over the limit."""

    _in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse, then look how much of an unfinished head there is."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._in_head = False
        super().on_headers_complete()


class Listener(uvicorn.Server):
    """One listener, on sockets that are open already; signals are the process' business, not its own."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config)
        self._sockets = sockets

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`."""
        await super().serve(sockets or self._sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`."""
        yield


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PolicyError and StoreUnavailable before anything is answered."""
    configure(settings.log_level)
    policy = load_policy(settings.policy)
    for warning in warnings(policy):
        log.warning("%s", warning)
    store = open_store(settings.store)
    with contextlib.ExitStack() as ports:
        callers = bind("--listen", settings.listen, ports)
        operators = bind("--ops-listen", settings.ops_listen, ports)
        guardian = build(policy, store)
        data = Listener(_listener_config(guardian.data), callers)
        operations = Listener(_listener_config(guardian.operations), operators)
        with asyncio.Runner(loop_factory=data.config.get_loop_factory()) as runner:
            runner.run(_serve(guardian, data, operations))


def bind(flag: str, listen: str, ports: contextlib.ExitStack) -> list[socket.socket]:
    """Listen at every address that `host:port` stands for, until `ports` closes; raises PolicyError."""
    host, _, port = listen.rpartition(":")
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.create_server(address, family=family, backlog=HANDSHAKES_WAITING)
            bound.append(ports.enter_context(one))
    except (OSError, UnicodeError) as fault:
        raise PolicyError(f"{flag}: {listen} {_cure(fault)}") from fault
    for one in bound:
        address, number = one.getsockname()[:2]
        log.info("listening", extra={"flag": flag, "address": address, "port": number})
    return bound


def _cure(fault: OSError | UnicodeError) -> str:
    if isinstance(fault, socket.gaierror | UnicodeError):
        return "has an unknown host; write an IP address of this machine"
    match fault.errno:
        case errno.EADDRINUSE:
            return "is in use by another process; stop that one, or choose another port"
        case errno.EACCES | errno.EPERM:
            return "may not be used by this user; choose a port from 1024"
        case errno.EADDRNOTAVAIL:
            return "is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them"
    return f"cannot be listened at: {fault.strerror or fault}; choose another address"


def _listener_config(app: "ASGIApp | ASGIApplication") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHead,
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
    _spare_collector()

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


def _spare_collector() -> None:
    """What is loaded by now stays: looking through it again and again held every caller for 0.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
