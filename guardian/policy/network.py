"""What a policy says of a network and its tokens, and the values that are shipped. No I/O, no YAML.

Only facts of the network stand here; the keys of every layer are in keys.py.
"""

from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from guardian.policy.keys import Layer
from guardian.policy.section import Section
from guardian.policy.tree import Path
from guardian.policy.types import (
    Count,
    Duration,
    Factor,
    Finality,
    Flag,
    Misplaced,
    PaceValue,
    Sentence,
    Written,
    asset_id,
    whole,
)
from guardian.policy.units import Pace, show
from guardian.policy.urls import RpcUrl, leads_to
from guardian.wire.names import Network
from guardian.wire.networks import ASSETS


def _text(value: object) -> object:
    """`version: 2` without quotes is a number to YAML; the domain's version is a text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{show(value)} is a number here; put it in quotes")
    return value


Text = Annotated[Sentence, BeforeValidator(_text)]
Decimals = Annotated[int, Field(ge=0, le=77), BeforeValidator(whole)]


class TokenPolicy(Section):
    """One token of a network. What is left out comes from the shipped table, else from the contract."""

    symbol: Text = Field(default="", description="What people call it, for messages.")
    name: Annotated[Text | None, Written] = Field(
        default=None,
        description="Name of its EIP-712 domain, which is not always its symbol: `USD Coin` on Base.",
    )
    version: Annotated[Text | None, Written] = Field(
        default=None, description='Version of its EIP-712 domain, in quotes: `"2"`.'
    )
    decimals: Annotated[Decimals | None, Written] = Field(
        default=None, description="Digits after the point: 6 means that 1000000 atomic units are one token."
    )
    dollar: Flag = Field(
        default=False, description="One token is worth one dollar, so that amounts like `$0.001` hold."
    )


class NetworkPolicy(Layer):
    """One network, and what differs there."""

    rpc: tuple[RpcUrl, ...] = Field(
        default=(),
        max_length=16,
        repr=False,
        description="Endpoints that the chain is read from, two of different operators at best: their heads "
        "are compared. None: payments pass, but nobody looks at the chain (*unwatched*).",
    )
    rpc_pace: PaceValue = Field(
        default=Pace(500, 1.0),
        description="Calls that each endpoint is sent, those of a batch counted one by one. Busy watchers "
        "then look less often, and skip no proof. Set it to what your plan allows.",
    )
    block_time_s: Duration = Field(
        default=2.0, description="Time between two blocks; new heads are looked for at half of it."
    )
    congestion_multiplier: Factor = Field(
        default=3.0,
        description="So many block times may pass while the chain is busy before a payment is worth asking "
        "after (a factor from 1).",
    )
    confirmations: Count = Field(default=1, description="Blocks that prove a payment, its own included.")
    finality: Finality = Field(
        default=12,
        description="When the chain's time proves that a payment did not happen: a number of blocks, `safe` "
        "or `finalized`. 12 blocks suit a rollup with one sequencer, where waiting for its base "
        "layer takes 20 min.",
    )
    resend_after_blocks: Count = Field(
        default=3,
        description="After so many blocks that show the nonce unused, an authorization whose reply was lost "
        "is sent again.",
    )
    tokens: dict[str, TokenPolicy] = Field(
        default={},
        max_length=256,
        description="Tokens by address, over the shipped table (the defaults of the x402 SDKs).",
    )

    def _refuse_repeated_nodes(self, at: Path) -> None:
        """Two nodes must agree before a payment counts as never made; a node always agrees with itself."""
        urls = [leads_to(url) for url in self.rpc]
        for number, url in enumerate(urls):
            if url in urls[:number]:
                cure = "leave it out, or name another one"
                raise Misplaced((*at, "rpc", number), f"this node stands here twice; {cure}")

    def of(self, id: str, at: Path) -> "NetworkPolicy":
        """This, as the network of an id: its tokens go by their address. Raises Misplaced."""
        if self.rpc and not id.startswith("eip155:"):
            raise Misplaced(
                (*at, "rpc"), f"only EVM networks (eip155:…) can be watched, not {id}; leave rpc out"
            )
        self._refuse_repeated_nodes(at)
        tokens: dict[str, TokenPolicy] = {}
        for key, token in self.tokens.items():
            place = (*at, "tokens", key)
            if (address := asset_id(id, key, place)) in tokens:
                raise Misplaced(place, f"{key} stands here a second time; merge the two")
            known = SHIPPED_TOKENS.get(id, {}).get(address)
            if token.dollar and token.decimals is None and known is None:
                raise Misplaced(place, "decimals is missing; a dollar token needs it to count dollars")
            tokens[address] = token
        return self.model_copy(update={"tokens": tokens}) if tokens else self


_SOLANA: Final = Network("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")

SHIPPED: Final[dict[str, NetworkPolicy]] = {
    # Base. Settlement takes 10 to 28 s when the chain is busy.
    Network("eip155:8453"): NetworkPolicy(
        settlement_timeout_s=60, block_time_s=2, congestion_multiplier=3, post_sign_delay_s=1, finality=12
    ),
    # Base Sepolia.
    Network("eip155:84532"): NetworkPolicy(
        settlement_timeout_s=90, block_time_s=2, congestion_multiplier=5, post_sign_delay_s=1.5, finality=12
    ),
    # Ethereum. Not a rollup: a reorganisation is real here, and finality takes two epochs.
    Network("eip155:1"): NetworkPolicy(
        settlement_timeout_s=180,
        block_time_s=12,
        congestion_multiplier=3,
        post_sign_delay_s=0.5,
        finality="finalized",
    ),
    # Polygon. 4.2 s median to one confirmation; milestones make blocks final within seconds, and before
    # them reorganisations of many blocks have happened.
    Network("eip155:137"): NetworkPolicy(
        settlement_timeout_s=60,
        block_time_s=2,
        congestion_multiplier=3,
        post_sign_delay_s=1,
        finality="finalized",
    ),
    # Arbitrum One. Four blocks a second: what counts blocks elsewhere counts seconds here.
    Network("eip155:42161"): NetworkPolicy(
        settlement_timeout_s=60,
        block_time_s=0.25,
        congestion_multiplier=24,
        post_sign_delay_s=1,
        finality=96,
        resend_after_blocks=24,
    ),
    # Avalanche. An accepted block is final; 12 blocks are for endpoints that answer from before it.
    Network("eip155:43114"): NetworkPolicy(
        settlement_timeout_s=60, block_time_s=2, congestion_multiplier=3, post_sign_delay_s=1, finality=12
    ),
    # Solana. Unwatched: only EVM chains are. Facilitators wait up to 30 s for a confirmation there.
    _SOLANA: NetworkPolicy(settlement_timeout_s=60, block_time_s=0.4, congestion_multiplier=10),
}
"""Starting values from the field, where a network differs or the figures were looked at."""

_SOLANA_TOKENS: Final = {
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v": TokenPolicy(symbol="USDC", decimals=6, dollar=True),
    "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB": TokenPolicy(symbol="USDT", decimals=6, dollar=True),
}


def _shipped_tokens() -> dict[str, dict[str, TokenPolicy]]:
    """The SDKs' table; every default asset of theirs is a dollar token."""
    tokens: dict[str, dict[str, TokenPolicy]] = {_SOLANA: dict(_SOLANA_TOKENS)}
    for (network, address), asset in ASSETS.items():
        tokens.setdefault(network, {})[address] = TokenPolicy(
            symbol=asset.symbol, name=asset.name, version=asset.version, decimals=asset.decimals, dollar=True
        )
    return tokens


SHIPPED_TOKENS: Final = MappingProxyType(_shipped_tokens())
"""Network → address → token."""
