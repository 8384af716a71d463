"""`guardian serve`: two listeners in one loop, signals, and an orderly end."""

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from guardian.app import Guardian, build_from
from guardian.errors import PolicyError
from guardian.flow.parts import log
from guardian.listener import KEEP_ALIVE_S, MAX_CONNECTIONS, Bounded, ListenerConfig
from guardian.logs import configure
from guardian.policy.explain import warnings
from guardian.policy.model import Policy
from guardian.policy.source import PolicyFile
from guardian.settings import Settings
from guardian.store.open import open_store

if TYPE_CHECKING:
    from uvicorn._types import ASGIApplication

HANDSHAKES_WAITING = 2048

ANSWERING_S = 10
"""Held callers are answered at once when draining; writing that takes no longer than this."""

COLLECT_AFTER = 20_000
"""New objects before the collector looks for cycles: some hundred settles, a few MB."""

OPERATORS_CONNECTIONS = 256
KEPT_DESCRIPTORS = 1024
"""For what goes out (facilitators, nodes, the store): callers alone may not use up the descriptors."""

REPEATED_AFTER_S = 10.0
MAX_RECURSION = 1000


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
        guardian = build_from(file, loaded, store, fits=functools.partial(refuse_itself, callers=callers))
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


_HERE = {"127.0.0.1", "::1", "0.0.0.0", "::"}


def refuse_itself(policy: Policy, callers: list[socket.socket]) -> None:
    """A guardian that is its own facilitator would wait for itself. Raises PolicyError."""
    ports = {one.getsockname()[1] for one in callers}
    hosts = {one.getsockname()[0] for one in callers}
    if hosts & _HERE:  # bound to another address alone, a port of this machine is somebody else's
        hosts |= _HERE | {"localhost"}
    for index, facilitator in enumerate(policy.facilitators):
        place = urlsplit(facilitator.url)
        if place.port in ports and place.hostname in hosts:
            said = f"facilitators[{index}].url: {facilitator.url} is where this guardian listens itself"
            raise PolicyError(f"{said}; write the facilitator's own URL, and give sellers this one")


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
    try:
        await guardian.start()
    except BaseException:  # also Ctrl-C: what was opened is closed, or its loss is reported after all
        await guardian.stop()
        raise
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
