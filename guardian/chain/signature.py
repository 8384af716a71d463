"""Whether an EIP-3009 authorization was signed by its payer.

EIP-712 recovery by eth_account (0.1 ms by coincurve, 7 ms where Python has no build of it); where that
gives another address and the payer has code, ERC-1271 by a call. An ERC-6492 signature (of a wallet that was
not deployed when it signed) is proven once the wallet is there, by the signature that it wraps: the payment
itself deploys it. An answer False means not proven; an endpoint that fails raises ChainUnavailable.
"""

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from guardian.chain.endpoint import Endpoint, RpcRefused
from guardian.chain.rpc import Endpoints
from guardian.chain.wires import Call
from guardian.errors import ChainUnavailable
from guardian.wire.names import Address, Nonce

ERC1271_MAGIC = "1626ba7e"
ERC6492_SUFFIX = "6492" * 16
PLAIN_CHARS = 130
_HEX = frozenset("0123456789abcdef")

_AUTHORIZATION_TYPE = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(frozen=True, slots=True)
class Authorization:
    """The fields that an EIP-3009 payer signs, and the token's EIP-712 domain."""

    chain_id: int
    asset: Address
    domain_name: str
    domain_version: str
    payer: Address
    to: Address
    value: int
    valid_after: int
    valid_before: int
    nonce: Nonce


async def signed_by_payer(
    authorization: Authorization, signature: str, endpoints: Endpoints | None = None
) -> bool:
    """Whether the payer's key, or the payer's contract, stands behind this authorization.

    signature: 0x-hex. endpoints: None answers for plain keys only. Raises ChainUnavailable when
    the payer may be a contract and no endpoint answers.
    """
    found = signature.lower().removeprefix("0x")
    message = typed_data(authorization)
    if not found or message is None:
        return False
    if is_counterfactual(found):
        found = _wrapped(found)
    elif _recovers(message, found, authorization.payer):
        return True
    if not found or endpoints is None:
        return False
    return await endpoints.first(lambda endpoint: _contract_accepts(endpoint, message, found, authorization))


def is_of_a_key(signature: str) -> bool:
    """Whether it has the form of a plain key's: 65 bytes, as 0x-hex."""
    found = signature.lower().removeprefix("0x")
    return len(found) == PLAIN_CHARS and set(found) <= _HEX


def is_counterfactual(signature: str) -> bool:
    """Whether it is of a wallet that is not deployed yet (ERC-6492)."""
    return signature.lower().endswith(ERC6492_SUFFIX)


async def is_contract(account: Address, endpoints: Endpoints) -> bool:
    """Whether there is code at an account. Raises ChainUnavailable."""
    return await endpoints.first(lambda endpoint: _has_code(endpoint, account))


def typed_data(authorization: Authorization) -> SignableMessage | None:
    """The EIP-712 message that was signed; None where a field does not fit its type."""
    try:
        return encode_typed_data(
            domain_data={
                "name": authorization.domain_name,
                "version": authorization.domain_version,
                "chainId": authorization.chain_id,
                "verifyingContract": authorization.asset,
            },
            message_types={"TransferWithAuthorization": _AUTHORIZATION_TYPE},
            message_data={
                "from": authorization.payer,
                "to": authorization.to,
                "value": authorization.value,
                "validAfter": authorization.valid_after,
                "validBefore": authorization.valid_before,
                "nonce": bytes.fromhex(authorization.nonce.removeprefix("0x")),
            },
        )
    except (ValueError, TypeError, ValidationError, OverflowError, EncodingError):
        return None


def digest(message: SignableMessage) -> bytes:
    """The 32 bytes that were signed."""
    return keccak(b"\x19" + message.version + message.header + message.body)


def _recovers(message: SignableMessage, signature: str, payer: Address) -> bool:
    try:
        found: Any = Account.recover_message(message, signature="0x" + signature)
    except (ValueError, TypeError, BadSignature, ValidationError):
        return False
    return str(found).lower() == payer.lower()


def _wrapped(signature: str) -> str:
    """What an ERC-6492 signature wraps, for a wallet that is deployed by now; "" where it wraps nothing."""
    try:
        raw = bytes.fromhex(signature)[: -len(ERC6492_SUFFIX) // 2]
        _, _, inner = decode(["address", "bytes", "bytes"], raw)
    except (ValueError, DecodingError, OverflowError):
        return ""
    return bytes(inner).hex()


async def _contract_accepts(
    endpoint: Endpoint, message: SignableMessage, signature: str, authorization: Authorization
) -> bool:
    if not await _has_code(endpoint, authorization.payer):
        return False
    try:
        data = encode(["bytes32", "bytes"], [digest(message), bytes.fromhex(signature)])
    except ValueError:
        return False
    call = {"to": authorization.payer, "data": "0x" + ERC1271_MAGIC + data.hex()}
    (answer,) = await endpoint.ask_all([Call("eth_call", [call, "latest"])])
    if isinstance(answer, RpcRefused):  # the wallet reverted: it does not accept
        return False
    return isinstance(answer, str) and len(answer) == 66 and answer[2:10] == ERC1271_MAGIC


async def _has_code(endpoint: Endpoint, account: Address) -> bool:
    code = await endpoint.ask("eth_getCode", account, "latest")
    if not isinstance(code, str) or not code.startswith("0x"):
        raise ChainUnavailable("an answer is no code")
    return code != "0x"
