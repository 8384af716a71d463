"""What real facilitators answer when things go wrong, as data: status, content type and body. No I/O.

Each entry is a facilitator that exists; the names are the control modes of facilitator.py.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

JSON = "application/json"
HTML = "text/html; charset=utf-8"
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str = JSON
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a dialect may speak of: the broadcast's hash, the network as it was sent, the payer."""

    transaction: str
    network: str
    payer: str


def as_json(status: int, **fields: object) -> Answer:
    return Answer(status, json.dumps(fields).encode())


def _pending(status: int, settled: Settled) -> Answer:
    return as_json(
        status,
        success=False,
        errorReason="settlement_pending",
        errorMessage="transaction was not confirmed in time",
        transaction=settled.transaction,
        network=settled.network,
        payer=settled.payer,
    )


def _circle(settled: Settled) -> Answer:
    return as_json(
        200,
        success=False,
        errorReason="settlement_pending",
        paymentId="6e1f2a54-9d0b-4c6e-8d25-2f4f1f0f7f10",
        transaction="",
        network=settled.network,
        payer=settled.payer,
    )


def _x402_rs(settled: Settled) -> Answer:
    return as_json(
        500,
        success=False,
        network="",
        transaction="",
        errorReason="unexpected_error",
        errorMessage="transaction receipt was not found in time",
        payer="",
    )


def _v1(settled: Settled) -> Answer:
    return as_json(
        200,
        success=False,
        errorReason="transaction_failed",
        transaction="",
        network=settled.network,
        payer=settled.payer,
    )


def _gateway_page(status: int, title: str) -> Answer:
    heading = f"{status} {title}"
    page = (
        f"<html>\r\n<head><title>{heading}</title></head>\r\n"
        f"<body><center><h1>{heading}</h1></center></body>\r\n</html>"
    )
    return Answer(status, page.encode(), HTML)


# Answers of a facilitator that has broadcast and whose own deadline came before the confirmation.
DEADLINES: dict[str, Callable[[Settled], Answer]] = {
    "pending_200": lambda settled: _pending(200, settled),  # the SDKs
    "pending_500": lambda settled: _pending(500, settled),  # CDP
    "pending_202": lambda settled: _pending(202, settled),  # Circle's older document
    "pending_no_hash": _circle,
    "rs_500": _x402_rs,
    "go_500": lambda _: as_json(
        500, error="transaction_failed: transaction did not confirm in time: context deadline exceeded"
    ),
    "v1_failed": _v1,
    "page_504": lambda _: _gateway_page(504, "Gateway Time-out"),
}

# Answers of a facilitator, or of what stands before it, that failed: before or after broadcasting.
FAULTS: dict[str, Answer] = {
    "http_500": as_json(500, detail="Internal Server Error"),
    "http_502": _gateway_page(502, "Bad Gateway"),
    "http_503": Answer(503, b"no healthy upstream", "text/plain"),
    "rate_limit": Answer(429, b'{"error":"rate limit exceeded"}', retry_after_s=RETRY_AFTER_S),
    "garbage": Answer(200, b"\x00\xff{not json"),
    "empty": Answer(200, b""),
}

# CDP's answer when its gas estimation runs too soon after the signing: nothing was sent (x402 issue 1065).
GAS_RACE = as_json(
    400, correlationId="9a1b2c3d4e5f-IAD", errorType="invalid_request", errorMessage="unable to estimate gas"
)


def success(transaction: str, settled: Settled) -> Answer:
    return as_json(200, success=True, transaction=transaction, network=settled.network, payer=settled.payer)
