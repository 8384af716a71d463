"""Whether an evidence bundle is whole and agrees with itself, and with a chain where one is asked. Pure but
for that question."""

from collections.abc import Iterator
from typing import Any

from guardian.chain.evidence import Use
from guardian.chain.onchain import on_chain_at, use_in
from guardian.chain.target import Target
from guardian.errors import ChainUnavailable, GuardianError
from guardian.flow.evidence import FORMAT, Bundle, hash_of, id_of
from guardian.wire.names import Address, Network, Nonce, TxHash

Finding = tuple[bool, str]
"""Whether it holds, and what."""

_ASKED = ("amount", "maxAmountRequired")
"""In the requirements of v2, and of v1."""


def check_bundle(found: object) -> list[Finding]:
    """What holds of a bundle by itself. Raises GuardianError for what is none."""
    if not isinstance(found, dict) or found.get("evidence") != FORMAT:
        raise GuardianError(
            f"FILE: no evidence bundle of format {FORMAT}; `guardian orphans show ID --evidence`"
        )
    try:
        return list(_findings(found))
    except (KeyError, TypeError, ValueError, AttributeError, ChainUnavailable) as fault:
        return [(False, f"a part is missing or no such thing ({type(fault).__name__}: {fault})")]


async def check_on_chain(found: Bundle, url: str) -> Finding:
    """Whether a node shows the transfer. Raises ChainUnavailable, and GuardianError where it names none."""
    target, hash = _target(found), found["transaction"]["hash"]
    if not hash:
        raise GuardianError("--rpc: the bundle names no transaction to look up")
    try:
        shown = await on_chain_at(url, Network(found["payment"]["network"]), TxHash(hash), target)
    except ValueError as fault:
        raise GuardianError(f"--rpc: {fault}") from fault
    block = found["transaction"]["block"]
    where = f"block {shown.block}, {shown.block_hash}"
    if block and (block["number"], block["hash"]) != (shown.block, shown.block_hash):
        return False, f"chain: the transaction stands in {where}, not where the bundle says"
    return shown.use == Use.PAID.value, f"chain: {shown.use} in {where} {shown.detail}".strip()


def _findings(found: Bundle) -> Iterator[Finding]:
    yield hash_of(found) == found["sha256"], "sha256: the bundle is as it was made"
    payment = found["payment"]
    yield id_of(payment["key"]) == payment["id"], "payment: its id belongs to its key"
    signed = (found["authorization"] or {}).get("authorization")
    if signed:
        said = [payment[name].lower() for name in ("payer", "pay_to", "nonce")]
        facts = [str(signed[name]).lower() for name in ("from", "to", "nonce")]
        facts_agree = facts == said and _covers(signed, found["requirements"], payment["amount"])
        yield facts_agree, "authorization: payer, payee, amount and nonce are the payment's"
    yield from _proof(found)


def _covers(signed: dict[str, Any], wanted: object, amount: str) -> bool:
    """The amount is the signed one, or the one that was asked where more was signed."""
    asked = wanted if isinstance(wanted, dict) else {}
    named = {str(signed["value"]), *(str(asked.get(key)) for key in _ASKED)}
    return amount in named and int(signed["value"]) >= int(amount)


def _proof(found: Bundle) -> Iterator[Finding]:
    kept = found["transaction"]
    if kept["not_told_because"] is not None:
        return
    use, detail = use_in(kept["logs"], TxHash(kept["hash"]), _target(found))
    yield use.value == kept["use"], f"transaction: its logs say {use.value} {detail}".strip()
    in_block = all(
        log.get("blockHash", kept["block"]["hash"]) == kept["block"]["hash"] for log in kept["logs"]
    )
    yield in_block, "transaction: its logs stand in its block"


def _target(found: Bundle) -> Target:
    payment: dict[str, Any] = found["payment"]
    return Target(
        key=payment["key"],
        asset=Address(payment["asset"]),
        payer=Address(payment["payer"]),
        pay_to=Address(payment["pay_to"]),
        amount=int(payment["amount"]),
        nonce=Nonce(payment["nonce"]),
        valid_before=payment["valid_before"],
    )
