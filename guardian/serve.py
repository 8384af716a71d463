"""`guardian serve`: two listeners in one loop, signals, and an orderly end."""

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from guardian.app import Guardian, build_from
from guardian.errors import PolicyError
from guardian.flow.parts import log
from guardian.listener import Joining
from guardian.logs import configure
from guardian.policy.explain import warnings
from guardian.policy.source import PolicyFile
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

MAX_TARGET_BYTES = 32 * 1024
"""Path and query; decoding half a megabyte of percent signs would hold everybody for a tenth of a second."""

MAX_HEADERS = 256
"""Browsers send some 30, a chain of proxies adds a dozen."""

MAX_PIPELINED = 16
"""Requests that may wait behind the one that is being answered; a kilobyte holds fifty small ones."""

MAX_HELD_BYTES = 256 * 1024 * 1024
"""Heads and bodies of everything that is being answered: 10,000 callers with 25 kB each."""

HEAD_TIMEOUT_S = 15.0
"""From the first byte of a head to its last one: three lost packets in a row still fit in."""

WRITE_TIMEOUT_S = 60.0
"""A caller that takes no more bytes for so long has gone, whatever its system says."""

OPERATORS_CONNECTIONS = 256
KEPT_DESCRIPTORS = 1024
"""For what goes out (facilitators, nodes, the store): callers alone may not use up the descriptors."""

REPEATED_AFTER_S = 10.0
MAX_RECURSION = 1000


class ListenerConfig(uvicorn.Config):
    """What the connections of one listener share. held_bytes: of requests that are being answered."""

    max_connections = MAX_CONNECTIONS
    held_bytes = 0


class Bounded(HttpToolsProtocol):
    """One connection that cannot hold more memory, or hold it for longer, than a sound one needs.

    What is refused here reached nobody. While a request is being answered nothing else is written: a
    caller would read it as the answer to its payment.
    """

    config: ListenerConfig
    _in_head = True
    _unmoved = 0
    """Bytes since the parser last got on: of a head, of a trailer, of what no request begins with."""
    _held = 0
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _silent = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller; it may be one too many."""
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            return self._turn_away(b"503 Service Unavailable", b"Too many connections.")
        self._expect_head(KEEP_ALIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        self._release()
        self._cancel_late()
        if self._stalled is not None:
            self._stalled.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse, then look at what that leaves unfinished."""
        if self._silent:
            self._silent = False
            self._cancel_late()
        self._held += len(data)
        self.config.held_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._unmoved += len(data)
        if self._unmoved > MAX_HEAD_BYTES:
            self._turn_away(b"431 Request Header Fields Too Large", b"The request's head is too large.")
        elif self.config.held_bytes > MAX_HELD_BYTES:
            self._turn_away(b"503 Service Unavailable", b"Too much at once; send this again later.")
        elif self._late is None and (self._in_head or not self._answering):
            self._expect_head(HEAD_TIMEOUT_S)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # -- what the parser tells

    def on_url(self, url: bytes) -> None:
        """The request's target, or a part of it."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            raise ValueError("too long a target")
        super().on_url(url)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._unmoved = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. One that comes after the body is dropped: a proxy in front did not look at it."""
        if not self._in_head:
            return
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")  # the parser gives up, and the caller hears 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body begins."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._in_head = False
        self._cancel_late()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.transport = cast(asyncio.Transport, Joining(self.transport, self.loop))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unmoved = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unmoved = 0
        super().on_message_complete()

    # -- what the server tells

    def on_response_complete(self) -> None:
        """An answer is written."""
        self._release()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The caller takes no more bytes."""
        super().pause_writing()
        self._stalled = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes them again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._turn_away(b"400 Bad Request", msg.encode("ascii"))

    def _turn_away(self, status: bytes, text: bytes) -> None:
        """Say why, if what is written now is read as the answer to what is wrong; then close."""
        cycle = self.cycle
        if self._answering and (self.pipeline or not cycle.more_body or cycle.response_started):
            return self.transport.close()
        length = b"content-length: %d" % len(text)
        head = (b"HTTP/1.1 " + status, b"content-type: text/plain", length, b"connection: close", b"", text)
        self.transport.write(b"\r\n".join(head))
        self.transport.close()

    def _expect_head(self, limit_s: float) -> None:
        self._late = self.loop.call_later(limit_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._late = None
        if self._answering:  # it is the guardian that takes its time
            return self._expect_head(HEAD_TIMEOUT_S)
        if self._in_head and not self._silent:
            return self._turn_away(b"408 Request Timeout", b"The request's head took too long.")
        self.transport.close()

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _release(self) -> None:
        self.config.held_bytes -= self._held
        self._held = 0


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
    bound_recursion()
    logging.getLogger("uvicorn.error").addFilter(Sparing())
    file = PolicyFile(settings.policy)
    loaded = file.read()
    for warning in warnings(loaded.policy):
        log.warning("%s", warning)
    store = open_store(settings.store)
    with contextlib.ExitStack() as ports:
        callers = bind("--listen", settings.listen, ports)
        operators = bind("--ops-listen", settings.ops_listen, ports)
        guardian = build_from(file, loaded, store)
        data = Listener(_listener_config(guardian.data, _places()), callers)
        operations = Listener(_listener_config(guardian.operations, OPERATORS_CONNECTIONS), operators)
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


def _places() -> int:
    """How many callers may be connected, once this process may open as many descriptors as it is let."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OPERATORS_CONNECTIONS + KEPT_DESCRIPTORS
    if hard == resource.RLIM_INFINITY or hard > soft:
        raised = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        soft = max(soft, raised)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    places = soft // 2
    log.warning("few descriptors; raise `ulimit -n`", extra={"limit": soft, "connections": places})
    return places


def _listener_config(app: "ASGIApp | ASGIApplication", max_connections: int) -> ListenerConfig:
    config = ListenerConfig(
        app,
        http=Bounded,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=HANDSHAKES_WAITING,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ANSWERING_S,
        ws="none",
    )
    config.max_connections = max_connections
    return config


class Sparing(logging.Filter):
    """Lets the server's own complaints through once in REPEATED_AFTER_S: anybody can cause them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is time for this one again; what carries an exception always passes."""
        now, text = self._clock(), str(record.msg)
        if record.exc_info or now - self._told.get(text, -REPEATED_AFTER_S) >= REPEATED_AFTER_S:
            self._told[text] = now
            return True
        return False


async def _serve(guardian: Guardian, data: Listener, operations: Listener) -> None:
    await guardian.start()
    _spare_collector()

    def stop() -> None:
        guardian.drain()
        data.should_exit = operations.should_exit = True

    def reload() -> None:
        if guardian.reloading:
            guardian.parts.tasks.spawn(guardian.reloading.read_again(), "reload")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await asyncio.gather(data.serve(), operations.serve())
    finally:
        await guardian.stop()


def bound_recursion() -> None:
    """Python's own limit again: py_ecc, which eth_account imports, raises it to 100,000, and there JSON of
    100,000 brackets is no RecursionError but the end of the process."""
    sys.setrecursionlimit(MAX_RECURSION)


def _spare_collector() -> None:
    """What is loaded by now stays: looking through it again and again held every caller for 0.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
