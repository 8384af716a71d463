"""A real facilitator on the official SDK that can be told to misbehave.

    python -m guardian.sandbox.facilitator --port N --rpc URL [--key 0x…] [--events FILE]

POST /verify, POST /settle, GET /supported as every facilitator (v1 and v2, EVM exact). And:

POST /_control  one fault or a list of them (a script, used up in order; then all is well again):
    {"mode": "…", "operation": "settle" | "verify" | "supported", "times": n | null (for ever),
     "when": "before" | "after" (the broadcast),
     "confirm": bool (wait for the receipt before the fault; default false),
     "delay_s": before anything is done, "wait_s": between broadcast and answer,
     "retry_after_s": for rate_limit, "seconds": for hang}
  A new POST replaces the faults of the operations it names. {"mode": "ok"} clears them; with delay_s or
  wait_s it is a slow, honest facilitator. {"mode": "release"} lets stuck transactions go;
  {"mode": "forget"} empties the SDK's store of pending settlements, as a restart does.
GET /_control   the counters: {"settle": n, "verify": n, "supported": n, "broadcasts": n,
                "payments": {nonce: {"settle": n, "verify": n, "broadcasts": [hash, …]}}, "faults": […]}

Modes. Deadline before confirmation, always after a real broadcast: see dialects.DEADLINES.
Before or after the broadcast: those of dialects.FAULTS, and `hang`, `reset`, `truncate`, `crash`
(the process ends; the counters survive in --events).
`gas_race`: refused before sending. `success_no_hash`: paid and confirmed, the hash left out.
`liar`: success, nothing sent.
`cancelled`, `replaced`, `stuck`: signer.Fate, answered with settlement_pending and the first hash.
"""

import argparse
import asyncio
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from eth_account import Account
from x402 import x402FacilitatorSync
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas import parse_payment_payload, parse_payment_requirements

from guardian.sandbox import dialects
from guardian.sandbox.dialects import Answer, Settled
from guardian.sandbox.signer import PLAN, Fate, Plan, SandboxSigner

FATES: Final = {fate.value for fate in Fate} - {Fate.MINED.value}
BREAKS: Final = {"hang", "reset", "truncate", "crash"}
OTHERS: Final = {"ok", "gas_race", "success_no_hash", "liar"}
MODES: Final = FATES | BREAKS | OTHERS | dialects.DEADLINES.keys() | dialects.FAULTS.keys()
OPERATIONS: Final = ("settle", "verify", "supported")
CRASHED: Final = 70

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Fault:
    """One order of the control endpoint."""

    mode: str = "ok"
    operation: str = "settle"
    when: str = "before"
    times: int | None = None
    confirm: bool = False
    delay_s: float = 0.0
    wait_s: float = 0.0
    retry_after_s: int = dialects.RETRY_AFTER_S
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.operation not in OPERATIONS or self.when not in ("before", "after"):
            raise ValueError(f"no such fault: {asdict(self)}; modes: {sorted(MODES)}")


@dataclass(slots=True)
class Broken(Exception):
    """The connection is to end like this instead of with an answer."""

    fault: Fault


class Counters:
    """What happened, kept in a file so that a crash does not forget it."""

    def __init__(self, events: Path | None) -> None:
        self._events = events
        self._seen: list[list[str]] = []
        if events is not None and events.is_file():
            self._seen = [json.loads(line) for line in events.read_text().splitlines()]

    def add(self, kind: str, nonce: str, detail: str = "") -> None:
        self._seen.append([kind, nonce, detail])
        if self._events is not None:
            with self._events.open("a") as out:
                out.write(json.dumps([kind, nonce, detail]) + "\n")

    def summary(self) -> dict[str, Any]:
        seen = list(self._seen)
        payments: dict[str, dict[str, Any]] = {}
        for kind, nonce, detail in seen:
            entry = payments.setdefault(nonce, {"settle": 0, "verify": 0, "broadcasts": []}) if nonce else {}
            if kind == "broadcasts":
                entry.setdefault("broadcasts", []).append(detail)
            elif entry:
                entry[kind] += 1
        counts = {kind: sum(1 for event in seen if event[0] == kind) for kind in (*OPERATIONS, "broadcasts")}
        return {**counts, "payments": payments}


@dataclass(slots=True)
class Request:
    """What the SDK is asked, and what the dialects need of it."""

    payload: Any
    requirements: Any
    nonce: str
    settled: Settled

    @classmethod
    def read(cls, body: bytes) -> "Request":
        document = json.loads(body)
        payload = parse_payment_payload(document["paymentPayload"])
        requirements = parse_payment_requirements(payload.x402_version, document["paymentRequirements"])
        authorization = payload.payload.get("authorization", {})
        settled = Settled("", str(requirements.network), str(authorization.get("from", "")))
        return cls(payload, requirements, str(authorization.get("nonce", "")).lower(), settled)


@dataclass(slots=True)
class SandboxFacilitator:
    """The ASGI application. `sdk` does the work, `faults` say what is to go wrong next."""

    sdk: x402FacilitatorSync
    signer: SandboxSigner
    counters: Counters
    forget: Callable[[], None]
    faults: list[Fault] = field(default_factory=list)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read(receive)
        fault = Fault()
        try:
            if scope["path"] == "/_control":
                answer = self._control(scope["method"], body)
            elif (operation := scope["path"].rsplit("/", 1)[-1]) not in OPERATIONS:
                answer = dialects.as_json(404, detail="Not Found")
            else:
                fault = self._next_fault(operation)
                answer = await self._work(operation, fault, body)
        except Broken as broken:
            await _break(broken.fault, receive, send)
            return
        except Exception as error:  # the edge: the SDK's examples answer so
            answer = dialects.as_json(500, detail=f"{type(error).__name__}: {error}")
        await _answer(answer, send)

    def _control(self, method: str, body: bytes) -> Answer:
        if method == "POST":
            order = json.loads(body)
            if order == {"mode": "release"}:
                return dialects.as_json(200, released=self.signer.release())
            if order == {"mode": "forget"}:
                self.forget()
                return dialects.as_json(200, forgotten=True)
            new = [Fault(**one) for one in (order if isinstance(order, list) else [order])]
            named = {fault.operation for fault in new}
            self.faults = [old for old in self.faults if old.operation not in named] + new
        return dialects.as_json(
            200, **self.counters.summary(), faults=[asdict(fault) for fault in self.faults]
        )

    def _next_fault(self, operation: str) -> Fault:
        for fault in self.faults:
            if fault.operation != operation or fault.times == 0:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return Fault(operation=operation)

    async def _work(self, operation: str, fault: Fault, body: bytes) -> Answer:
        if operation == "supported":
            self.counters.add(operation, "")
            _refuse(fault)
            return _dump(self.sdk.get_supported())
        request = Request.read(body)
        self.counters.add(operation, request.nonce, f"{fault.mode} {fault.when} {time.time():.3f}")
        await asyncio.sleep(fault.delay_s)
        if operation == "settle":
            return await self._settle(request, fault)
        _refuse(fault)
        return _dump(await asyncio.to_thread(self.sdk.verify, request.payload, request.requirements))

    async def _settle(self, request: Request, fault: Fault) -> Answer:
        if fault.mode == "gas_race":
            return dialects.GAS_RACE
        if fault.mode == "liar":
            return dialects.success("0x" + secrets.token_hex(32), request.settled)
        if fault.when == "before":
            _refuse(fault)
        plan, result = await self._broadcast(request, fault)
        transaction = result.transaction or next(reversed(plan.broadcasts), "")
        settled = Settled(transaction, request.settled.network, request.settled.payer)
        if fault.mode in dialects.DEADLINES and transaction:
            return dialects.DEADLINES[fault.mode](settled)
        _refuse(fault)
        if fault.mode == "success_no_hash" and result.success:
            return dialects.success("", settled)
        return _dump(result)

    async def _broadcast(self, request: Request, fault: Fault) -> tuple[Plan, Any]:
        """The SDK settles in a thread of its own: its chain calls block."""
        waits = fault.mode in OTHERS or fault.confirm
        fate = Fate(fault.mode) if fault.mode in FATES else Fate.MINED
        plan = Plan(fate, None if waits else fault.wait_s)
        context = copy_context()
        context.run(PLAN.set, plan)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(
            None, lambda: context.run(self.sdk.settle, request.payload, request.requirements)
        )
        if waits:
            await asyncio.sleep(fault.wait_s)
        return plan, result


def _refuse(fault: Fault) -> None:
    """Raises Broken when this fault is to be answered with something other than the work's result."""
    if fault.mode in BREAKS or fault.mode in dialects.FAULTS:
        raise Broken(fault)


async def _break(fault: Fault, receive: Receive, send: Send) -> None:
    if fault.mode in dialects.FAULTS:
        answer = dialects.FAULTS[fault.mode]
        retry_after_s = fault.retry_after_s if fault.mode == "rate_limit" else None
        await _answer(Answer(answer.status, answer.body, answer.content_type, retry_after_s), send)
        return
    if fault.mode == "crash":
        os._exit(CRASHED)
    if fault.mode == "hang":
        await asyncio.sleep(fault.seconds)
    if fault.mode == "truncate":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"success": tr', "more_body": True})
    _reset(receive)


def _reset(receive: Receive) -> None:
    """Ends the connection with a RST; uvicorn's `receive` is a method of what holds the transport."""
    transport = receive.__self__.transport  # type: ignore[attr-defined]
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _answer(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
    ]
    if answer.retry_after_s is not None:
        headers.append((b"retry-after", str(answer.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _dump(model: Any) -> Answer:
    text: str = model.model_dump_json(by_alias=True, exclude_none=True)
    return Answer(200, text.encode())


def build(
    rpc: str, key: str, network: str, confirmation_timeout_s: float, events: Path | None
) -> SandboxFacilitator:
    """Wires SDK, signer and counters together."""
    counters = Counters(events)
    signer = SandboxSigner(
        key,
        rpc,
        confirmation_timeout_s,
        lambda nonce, transaction: counters.add("broadcasts", nonce, transaction),
    )
    sdk = x402FacilitatorSync()
    register_exact_evm_facilitator(sdk, signer, networks=[network])
    stores = [
        entry.facilitator._pending_store
        for entry in sdk._schemes
        if hasattr(entry.facilitator, "_pending_store")
    ]

    def forget() -> None:
        for store in stores:
            store.entries.clear()

    return SandboxFacilitator(sdk, signer, counters, forget)


def main() -> None:
    parser = argparse.ArgumentParser(description="An x402 facilitator that can be told to misbehave")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rpc", required=True)
    parser.add_argument("--key", default=None, help="default: a fresh one, with gas money")
    parser.add_argument("--network", default="eip155:84532")
    parser.add_argument("--confirmation-timeout", type=float, default=20.0, help="seconds")
    parser.add_argument("--events", type=Path, default=None, help="file for the counters")
    options = parser.parse_args()
    key = options.key or "0x" + bytes(Account.create().key).hex()
    app = build(options.rpc, key, options.network, options.confirmation_timeout, options.events)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
