"""The cable does to a connection what it says."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from guardian.sandbox.cable import Cable


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := self.request.recv(1024):
                self.request.sendall(piece)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Cable("127.0.0.1", server.server_address[1]) as cable:
            yield cable
        server.shutdown()
        thread.join()


def plugged(cable: Cable) -> socket.socket:
    return socket.create_connection(("127.0.0.1", cable.port), timeout=0.3)


def heard(end: socket.socket, said: bytes) -> bytes:
    end.sendall(said)
    return end.recv(1024)


def talk(cable: Cable) -> bytes:
    """The reset may come with the connecting, or with the first or second write."""
    with plugged(cable) as end:
        return heard(end, b"one") + heard(end, b"two")


def test_a_sound_cable_carries_both_ways(cable: Cable) -> None:
    with plugged(cable) as end:
        assert heard(end, b"one") == b"one"


def test_what_a_block_holds_back_arrives_after_the_healing(cable: Cable) -> None:
    with plugged(cable) as end:
        assert heard(end, b"before") == b"before"
        cable.block()
        end.sendall(b"late")
        with pytest.raises(TimeoutError):
            end.recv(1024)
        cable.heal()
        end.settimeout(5)
        assert end.recv(1024) == b"late"


def test_a_cut_cable_resets_what_is_open_and_refuses_what_comes(cable: Cable) -> None:
    with plugged(cable) as end:
        assert heard(end, b"before") == b"before"
        cable.cut()
        with pytest.raises(ConnectionResetError):
            heard(end, b"after")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(cable)
    cable.heal()
    with plugged(cable) as end:
        end.settimeout(5)
        assert heard(end, b"again") == b"again"
