"""Bodies of /verify and /settle as the SDKs write them; each call gives a fresh one to spoil."""

import base64
from typing import Any

import orjson

PAYER = "0x857b06519E91e3A54538791bDbb0E22373e36b66"
PAYEE = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
NONCE = "0x" + "F3" * 32
SIGNATURE = "0x" + "ab" * 65
CHANNEL = "0x" + "C1" * 32
SOLANA = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"


def requirements(**changes: Any) -> dict[str, Any]:
    return {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "10000",
        "asset": USDC,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
        **changes,
    }


def eip3009(**changes: Any) -> dict[str, Any]:
    authorization = {
        "from": PAYER,
        "to": PAYEE,
        "value": "10000",
        "validAfter": "0",
        "validBefore": "1740672154",
        "nonce": NONCE,
        **changes,
    }
    return {"signature": SIGNATURE, "authorization": authorization}


def permit2(**changes: Any) -> dict[str, Any]:
    authorization = {
        "from": PAYER,
        "permitted": {"token": USDC, "amount": "20000"},
        "spender": "0x402085c248EeA27D92E8b30b2C58ed07f9E20001",
        "nonce": "0077",
        "deadline": "1740672154",
        "witness": {"to": PAYEE, "validAfter": "0"},
        **changes,
    }
    return {"signature": SIGNATURE, "permit2Authorization": authorization}


def batch(kind: str, **more: Any) -> dict[str, Any]:
    voucher = {"channelId": CHANNEL, "maxClaimableAmount": "500", "signature": SIGNATURE}
    return {"type": kind, "channelConfig": {"payer": PAYER}, "voucher": voucher, **more}


def v2(payload: dict[str, Any] | None = None, **terms: Any) -> dict[str, Any]:
    return {
        "x402Version": 2,
        "paymentPayload": {
            "x402Version": 2,
            "resource": {"url": "https://api.example.com/x", "description": "", "mimeType": "text/plain"},
            "accepted": requirements(**terms),
            "payload": eip3009() if payload is None else payload,
            "extensions": {},
        },
        "paymentRequirements": requirements(**terms),
    }


def v1() -> dict[str, Any]:
    terms = requirements(
        network="base-sepolia", maxAmountRequired="10000", resource="https://api.example.com/x"
    )
    del terms["amount"]
    return {
        "x402Version": 1,
        "paymentPayload": {
            "x402Version": 1,
            "scheme": "exact",
            "network": "base-sepolia",
            "payload": eip3009(),
        },
        "paymentRequirements": terms,
    }


def solana_message(*, version: int | None = None, data: bytes = b"\x03abc") -> bytes:
    """Two accounts, one instruction; with a version also one address table."""
    head = b"" if version is None else bytes([0x80 | version])
    body = b"\x01\x00\x01" + b"\x02" + b"\x11" * 64 + b"\x22" * 32
    body += b"\x01" + b"\x01" + b"\x01\x00" + bytes([len(data)]) + data
    tables = b"" if version is None else b"\x01" + b"\x33" * 32 + b"\x01\x05" + b"\x00"
    return head + body + tables


def solana_transaction(message: bytes, signature: bytes = b"\x00" * 64) -> str:
    return base64.b64encode(b"\x01" + signature + message).decode()


def svm(transaction: str) -> dict[str, Any]:
    return v2(
        {"transaction": transaction}, network=SOLANA, asset="4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
    )


def sent(body: object) -> bytes:
    return orjson.dumps(body)
