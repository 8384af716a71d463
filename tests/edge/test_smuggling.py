"""Bytes that are no clean HTTP, sent to a real `guardian serve`: refused, or made clean, never passed on.

Every attack carries `smuggled` in what it wants to slip through. The facilitator here is a bare socket that
keeps each request as it came.
"""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardian.sandbox.process import Process, python_module
from guardian.sandbox.world import free_port
from tests.flow.scene import NETWORK, PAYER, TX, signed_payment

LIMIT_S = 5.0
SETTLED = (
    f'{{"success": true, "transaction": "{TX}", "network": "{NETWORK}", "payer": "{PAYER.address.lower()}"}}'
).encode()


class Facilitator(socketserver.ThreadingTCPServer):
    """Keeps what it receives, and answers each whole request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Connection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Connection(socketserver.StreamRequestHandler):
    server: Facilitator

    def handle(self) -> None:
        while head := self._head():
            body, whole = self._body(head)
            if not whole:
                return
            self.server.requests.append(head + body)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SETTLED) + SETTLED)

    def _head(self) -> bytes:
        head = b""
        while line := self.rfile.readline():
            head += line
            if line == b"\r\n":
                return head
        return b""

    def _body(self, head: bytes) -> tuple[bytes, bool]:
        body = b""
        if length := re.search(rb"content-length: *(\d+)", head, re.I):
            body = self.rfile.read(int(length[1]))
            return body, len(body) == int(length[1])
        if not re.search(rb"transfer-encoding: *chunked", head, re.I):
            return b"", True
        while not body.endswith(b"0\r\n\r\n") and (byte := self.rfile.read(1)):
            body += byte
        return body, body.endswith(b"0\r\n\r\n")


class Served:
    """A running guardian before that facilitator."""

    def __init__(self, facilitator: Facilitator, process: Process, port: int) -> None:
        self.facilitator, self.process, self.port = facilitator, process, port

    def say(self, sent: bytes, *, then_close: bool = False) -> bytes:
        """What comes back until the guardian closes, or has answered and the line is quiet."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as line:
            heard = b""
            try:
                line.sendall(sent)
                if then_close:
                    line.shutdown(socket.SHUT_WR)
                while part := line.recv(65536):
                    heard += part
                    line.settimeout(0.3)
            except TimeoutError:
                assert heard, "the caller was left without an answer"
            except ConnectionError:
                pass
            return heard


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory: Path = tmp_path_factory.mktemp("smuggling")
    port, ops = free_port(), free_port()
    with Facilitator() as facilitator:
        threading.Thread(target=facilitator.serve_forever, daemon=True).start()
        policy = directory / "policy.yaml"
        policy.write_text(
            f"version: 1\nfacilitators: [{{name: main, url: {facilitator.url}}}]\n"
            f"networks: {{{NETWORK}: {{post_sign_delay: 0s}}}}\n"
        )
        command = python_module(
            *("guardian.cli", "serve", "--policy", str(policy), "--store", "memory://"),
            *("--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops}"),
        )
        with Process("guardian", command, directory / "guardian.log") as process:
            process.wait_http(f"http://127.0.0.1:{ops}/healthz")
            yield Served(facilitator, process, port)
        facilitator.shutdown()


@pytest.fixture(autouse=True)
def _clean(served: Served) -> Iterator[None]:
    """After every attack: only clean requests went on, the guardian lives, and nothing was raised."""
    served.facilitator.requests.clear()
    yield
    for request in served.facilitator.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        assert (b"content-length" in names) + (b"transfer-encoding" in names) <= 1, request
        assert names.count(b"content-length") <= 1
        assert all(re.fullmatch(rb"[!-9;-~]+", name) for name in names), request
        assert b"\n" not in head.replace(b"\r\n", b"")
        assert b"/smuggled" not in request
        assert b"/smuggled" not in body
    assert served.process.alive
    assert "Traceback" not in served.process.log_text()


NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/settle") -> bytes:
    return b"\r\n".join((b"POST " + path + b" HTTP/1.1", b"Host: guardian", *headers, b"", body))


CHUNKED = b"Transfer-Encoding: chunked"

REFUSED = {
    "length and chunks": post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + NEXT),
    "chunks and length": post(CHUNKED, b"Content-Length: 6", body=b"0\r\n\r\n" + NEXT),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 36", body=NEXT),
    "a list of lengths": post(b"Content-Length: 0, 36", body=NEXT),
    "a signed length": post(b"Content-Length: +0", body=NEXT),
    "a negative length": post(b"Content-Length: -1", body=NEXT),
    "an endless length": post(b"Content-Length: 99999999999999999999999", body=NEXT),
    "a space before the colon": post(b"Content-Length : 0", body=NEXT),
    "a folded header": post(b"X-A: 1\r\n Content-Length: 0", b"Content-Length: 0", body=b""),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + NEXT),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + NEXT),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + NEXT),
    "a chunk ended by a lone line feed": post(CHUNKED, body=b"5\nhello\n0\n\n" + NEXT),
    "a chunk size that overflows": post(CHUNKED, body=b"FFFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n"),
    "a chunk size that is none": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"2\r\nhello\r\n0\r\n\r\n"),
    "a zero byte in a header": post(b"X-A: a\x00b", b"Content-Length: 0"),
    "a lone carriage return": post(b"X-A: a\rContent-Length: 36", b"Content-Length: 0"),
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_of_two_readings_is_refused(served: Served, attack: bytes) -> None:
    heard = served.say(attack)
    assert re.match(rb"HTTP/1\.1 4\d\d ", heard), heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1
    assert served.facilitator.requests == []


HALVES = {
    "half a head": b"POST /settle HTTP/1.1\r\nHost: x\r\nContent-Le",
    "half a payment": post(b"Content-Length: 1000", body=b'{"x402Version": 2'),
    "half a chunk": post(CHUNKED, body=b"10\r\nabc"),
    "half a passed body": post(CHUNKED, body=b"3\r\nabc\r\n", path=b"/discovery"),
    "half a passed length": post(b"Content-Length: 10", body=b"abc", path=b"/discovery"),
    "nothing": b"",
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES.keys())
def test_half_a_request_is_never_made_whole(served: Served, half: bytes) -> None:
    heard = served.say(half, then_close=True)
    assert not heard.startswith(b"HTTP/1.1 2")
    assert served.facilitator.requests == []


def test_pipelined_payments_are_answered_in_order(served: Served) -> None:
    bodies = [signed_payment(nonce, resource=f"https://shop/{nonce}") for nonce in (201, 202, 203)]
    heard = served.say(b"".join(post(b"Content-Length: %d" % len(body), body=body) for body in bodies))
    assert heard.count(b"HTTP/1.1 200 ") == 3
    assert heard.count(b'"success":true') + heard.count(b'"success": true') == 3
    assert [request.partition(b"\r\n\r\n")[2] for request in served.facilitator.requests] == bodies


def test_a_chunked_payment_is_sent_on_with_its_length(served: Served) -> None:
    body = signed_payment(210)
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    heard = served.say(post(CHUNKED, b"Connection: close", body=chunks + b"0\r\n\r\n"))
    assert heard.startswith(b"HTTP/1.1 200 ")
    (request,) = served.facilitator.requests
    assert request.partition(b"\r\n\r\n")[2] == body
    assert b"transfer-encoding" not in request.lower()


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_is_answered_as_plain_http(served: Served, protocol: bytes) -> None:
    body = signed_payment(220 + len(protocol))
    headers = (b"Connection: Upgrade", b"Upgrade: " + protocol, b"Content-Length: %d" % len(body))
    heard = served.say(post(*headers, body=body))
    assert heard.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4"))
    assert all(b"upgrade" not in request.lower() for request in served.facilitator.requests)


def test_large_headers_pass_whole(served: Served) -> None:
    body, value = signed_payment(230), b"a" * 40_000
    heard = served.say(post(b"X-Large: " + value, b"Content-Length: %d" % len(body), body=body))
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert value in served.facilitator.requests[0]


@pytest.mark.parametrize("name_each", [True, False])
def test_endless_headers_are_refused(served: Served, name_each: bool) -> None:
    line = b"X-Large: " + b"a" * 1000 + b"\r\n" if name_each else b"a" * 1000
    heard = served.say(b"POST /settle HTTP/1.1\r\nHost: x\r\nX-First: " + line * 4000)
    assert heard == b"" or heard.startswith(b"HTTP/1.1 4")
    assert served.facilitator.requests == []


def test_a_tunnel_is_not_opened(served: Served) -> None:
    heard = served.say(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT)
    assert not heard.startswith(b"HTTP/1.1 2")


def test_an_absolute_target_goes_to_the_facilitator_alone(served: Served) -> None:
    body = signed_payment(240)
    heard = served.say(
        post(b"Content-Length: %d" % len(body), body=body, path=b"http://elsewhere.example/settle")
    )
    assert heard.startswith(b"HTTP/1.1 ")
    assert all(request.startswith(b"POST /settle ") for request in served.facilitator.requests)
    assert all(b"elsewhere" not in request for request in served.facilitator.requests)
