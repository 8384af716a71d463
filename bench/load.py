"""Settles as fast as a proxy takes them: N connections, each asking again once it has its answer.

    python bench/load.py PORT CONNECTIONS WARMUP_S SECONDS

Every request is a payment of its own (payer, nonce, signature). Every answer must be HTTP 200 with
`success: true`. Prints one JSON object.
"""

import asyncio
import itertools
import json
import sys
import time
from array import array
from typing import cast

import uvloop

PAYEE = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
USDC = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
MAX_TIMEOUT_S = 300
SIGNED_BEFORE_S = 30  # old enough that no post-sign delay is due
PAYERS = 997


def settle_body(signed_at: int, payer: str, nonce: str) -> bytes:
    """A v2 EIP-3009 settle request as an SDK writes it; some 1.3 kB."""
    terms = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "10000",
        "asset": USDC,
        "payTo": PAYEE,
        "maxTimeoutSeconds": MAX_TIMEOUT_S,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    authorization = {
        "from": payer,
        "to": PAYEE,
        "value": "10000",
        "validAfter": str(signed_at - 600),
        "validBefore": str(signed_at + MAX_TIMEOUT_S),
        "nonce": nonce,
    }
    resource = {
        "url": "https://api.weather.example/v1/forecast/hourly",
        "description": "The weather of the coming hours, for one place: temperature, wind, rain and "
        "cloud cover by the hour, with the probability of each, from three models and their mean",
        "mimeType": "application/json",
    }
    payload = {
        "x402Version": 2,
        "resource": resource,
        "accepted": terms,
        "payload": {"signature": nonce + nonce[2:] + "1b", "authorization": authorization},
    }
    whole = {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": terms}
    return json.dumps(whole, separators=(",", ":")).encode()


class Requests:
    """Hands out requests that differ in payer, nonce and signature, at the price of one join."""

    def __init__(self, port: int, run: int) -> None:
        marks = ("0x" + "f" * 40, "0x" + "f" * 64)
        body = settle_body(int(time.time()) - SIGNED_BEFORE_S, *marks)
        head = (
            f"POST /settle HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            f"accept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        payer, nonce = (mark[2:].encode() for mark in marks)
        before_signature, _, between, rest = (head.encode() + body).replace(nonce, b"\0").split(b"\0")
        before_payer, after_payer = between.split(payer)
        self._pieces = (before_signature, before_payer, after_payer, rest)
        self._payers = itertools.cycle([f"{number:040x}".encode() for number in range(1, PAYERS)])
        self._prefix = b"%032x" % run
        self._numbers = itertools.count()

    def next(self) -> bytes:
        signature, payer, nonce, end = self._pieces
        unique = self._prefix + b"%032x" % next(self._numbers)
        return b"".join((signature, unique, unique, payer, next(self._payers), nonce, unique, end))


class Caller(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, checks it, asks again until told to stop."""

    def __init__(self, requests: Requests, result: "Result") -> None:
        self._requests, self._result = requests, result
        self._buffer = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit
        self._ask()

    def _ask(self) -> None:
        request = self._requests.next()
        self._asked = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._end(f"answer without content-length: {head!r}")
            return
        end = head_end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end:
            return
        self._result.took(time.perf_counter() - self._asked, self._buffer[:end])
        self._buffer = self._buffer[end:]
        if self._result.stopped:
            self._end("")
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost: {exc}")

    def _end(self, fault: str) -> None:
        if not self.over.done():
            self.over.set_result(None)
            if fault:
                self._result.fail(fault)
            self._transport.close()


class Result:
    def __init__(self) -> None:
        self.latencies_s = array("d")
        self.stopped = False
        self.failures = 0
        self.first_failure = ""

    def took(self, seconds: float, answer: bytes) -> None:
        if answer.startswith(b"HTTP/1.1 200") and b'"success":true' in answer.replace(b": ", b":"):
            self.latencies_s.append(seconds)
        else:
            self.fail(answer.decode(errors="replace"))

    def fail(self, fault: str) -> None:
        self.failures += 1
        self.first_failure = self.first_failure or fault[:600]


async def run(port: int, connections: int, warmup_s: float, seconds: float) -> dict[str, object]:
    result, requests = Result(), Requests(port, time.time_ns())
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(lambda: Caller(requests, result), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(warmup_s)
    result.latencies_s = array("d")
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    measured, elapsed_s = sorted(result.latencies_s), time.perf_counter() - started
    result.stopped = True
    await asyncio.wait([caller.over for caller in callers], timeout=30)
    count = len(measured)
    return {
        "rate": count / elapsed_s,
        "p50_ms": measured[count // 2] * 1e3 if count else None,
        "p99_ms": measured[count * 99 // 100] * 1e3 if count else None,
        "max_ms": measured[-1] * 1e3 if count else None,
        "failures": result.failures,
        "first_failure": result.first_failure,
    }


if __name__ == "__main__":
    port, connections, warmup_s, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(run(int(port), int(connections), float(warmup_s), float(seconds)))))
