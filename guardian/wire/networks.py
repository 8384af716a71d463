"""Names of networks, and the EIP-712 domains of the assets that payments use by default. Data only.

Source: the tables of the Python SDK `x402` 2.25.0 (`mechanisms/evm/v1/constants.py`,
`mechanisms/evm/default_assets.py`, `mechanisms/svm/constants.py`), copied so that the guardian does
not load that package. `requirements.extra` goes before a domain from here, the token contract before
both.
"""

import re
from typing import NamedTuple

from guardian.wire.names import Network


class Domain(NamedTuple):
    """The part of an EIP-712 domain that a token chooses. version: None where its domain has none; whole:
    False where it has a salt, or leaves chain or contract out, so that this does not say all of it."""

    name: str
    version: str | None
    whole: bool = True


class AssetInfo(NamedTuple):
    """name and version: the EIP-712 domain; decimals: of the atomic unit; method: how it is moved.

    dollar: one whole token is one US dollar, so that a price in dollars means it.
    """

    name: str
    version: str
    decimals: int
    symbol: str
    method: str = "eip3009"
    dollar: bool = True

    @property
    def domain(self) -> Domain:
        return Domain(self.name, self.version)


V1_NAMES: dict[str, str] = {
    "base": "eip155:8453",
    "base-sepolia": "eip155:84532",
    "ethereum": "eip155:1",
    "sepolia": "eip155:11155111",  # TypeScript SDK only
    "polygon": "eip155:137",
    "polygon-amoy": "eip155:80002",
    "avalanche": "eip155:43114",
    "avalanche-fuji": "eip155:43113",
    "abstract": "eip155:2741",
    "abstract-testnet": "eip155:11124",
    "iotex": "eip155:4689",
    "sei": "eip155:1329",
    "sei-testnet": "eip155:1328",
    "peaq": "eip155:3338",
    "megaeth": "eip155:4326",
    "monad": "eip155:143",
    "monad-testnet": "eip155:10143",
    "stable": "eip155:988",
    "stable-testnet": "eip155:2201",
    "celo": "eip155:42220",
    "flare": "eip155:14",
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    "solana-testnet": "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z",
}
# `story`, `educhain` and `skale-base-sepolia` are left out: the SDKs give them different chain ids,
# and a watch on the wrong chain would "prove" that a payment never happened.

_USD_COIN = AssetInfo("USD Coin", "2", 6, "USDC")
_USDC = AssetInfo("USDC", "2", 6, "USDC")
_BRIDGED = AssetInfo("Bridged USDC", "2", 6, "USDC.e")
_MEZO = AssetInfo("Mezo USD", "1", 18, "mUSD", "permit2")
_STABLE_COIN = AssetInfo("Stable Coin", "1", 6, "SBC", "permit2")
_USDT0 = AssetInfo("USDT0", "1", 6, "USDT0")

ASSETS: dict[tuple[str, str], AssetInfo] = {
    ("eip155:8453", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"): _USD_COIN,
    ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e"): _USDC,
    ("eip155:1", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"): _USD_COIN,
    ("eip155:43114", "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e"): _USD_COIN,
    ("eip155:4326", "0xfafddbb3fc7688494971a79cc65dca3ef82079e7"): AssetInfo(
        "MegaUSD", "1", 18, "MegaUSD", "permit2"
    ),
    ("eip155:143", "0x754704bc059f8c67012fed69bc8a327a5aafb603"): _USDC,
    ("eip155:10143", "0x534b2f3a21130d7a60830c2df862319e593943a3"): _USDC,
    ("eip155:988", "0x779ded0c9e1022225f8e0630b35a9b54be713736"): _USDT0,
    ("eip155:2201", "0x78cf24370174180738c5b8e352b6d14c83a6c9a9"): _USDT0,
    ("eip155:137", "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359"): _USD_COIN,
    ("eip155:42161", "0xaf88d065e77c8cc2239327c5edb3a432268e5831"): _USD_COIN,
    ("eip155:421614", "0x75faf114eafb1bdbe2f0316df893fd58ce46aa4d"): _USD_COIN,
    ("eip155:31612", "0xdd468a1ddc392dcdbef6db6e34e89aa338f9f186"): _MEZO,
    ("eip155:31611", "0x118917a40faf1cd7a13db0ef56c86de7973ac503"): _MEZO,
    ("eip155:723487", "0x33ad9e4bd16b69b5bfded37d8b5d9ff9aba014fb"): _STABLE_COIN,
    ("eip155:72344", "0x33ad9e4bd16b69b5bfded37d8b5d9ff9aba014fb"): _STABLE_COIN,
    ("eip155:36900", "0x9cb8142aebbcdc60af7c97af897a67a8f3ca71c2"): AssetInfo("USDC.e", "2", 6, "USDC.e"),
    ("eip155:190415", "0x401ecb1d350407f13ba348573e5630b83638e30d"): _BRIDGED,
    ("eip155:181228", "0x401ecb1d350407f13ba348573e5630b83638e30d"): _BRIDGED,
    ("eip155:50", "0xfa2958cb79b0491cc627c1557f441ef849ca8eb1"): _USDC,
    ("eip155:51", "0xb5ab69f7bbada22b28e79c8ffaece55ef1c771d4"): _USDC,
    ("eip155:38833", "0xa5b8bf902b2844da17d4506cc827f7f1681735e7"): AssetInfo(
        "USDC", "1", 6, "USDC", "permit2"
    ),
    ("eip155:14", "0xe7cd86e13ac4309349f30b3435a9d337750fc82d"): AssetInfo("USD₮0", "1", 6, "USDT0"),
    ("eip155:42220", "0xceba9300f2b948710d2653dd7b07f33a8b32118c"): _USDC,
    ("eip155:42220", "0x48065fbbe25f71c9282ddf5e1cd6d6a887483d5e"): AssetInfo("Tether USD", "1", 6, "USDT"),
    ("eip155:42220", "0xd2ab3c9a02dbbab236bfec45d1d755df4267f771"): AssetInfo(
        "Tether America USD", "1", 6, "USAT"
    ),
    ("eip155:11142220", "0x01c5c0122039549ad1493b8220cabedd739bc44e"): _USDC,
    ("eip155:1329", "0xe15fc38f6d8c56af07bbcbe3baf5708a2bf42392"): _USDC,
    ("eip155:1328", "0x4fcf1784b31630811181f670aea7a7bef803eaed"): _USDC,
    ("eip155:5042", "0x3600000000000000000000000000000000000000"): _USDC,
    ("eip155:5042002", "0x3600000000000000000000000000000000000000"): _USDC,
}

_SOLANA = V1_NAMES["solana"]
_DEVNET = V1_NAMES["solana-devnet"]
_TESTNET = V1_NAMES["solana-testnet"]

SPL_DOLLAR_DECIMALS = 6
SPL_DOLLARS: frozenset[tuple[str, str]] = frozenset(
    {
        (_SOLANA, "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),  # USDC
        (_SOLANA, "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"),  # USDT
        (_SOLANA, "2u1tszSeqZ3qBWF3uNGPFc8TzMk2tdiwknnRMWGWjGWH"),  # USDG
        (_SOLANA, "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo"),  # PYUSD
        (_SOLANA, "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH"),  # CASH
        (_DEVNET, "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),  # USDC
        (_DEVNET, "4F6PM96JJxngmHnZLBh9n58RH4aTVNWvDs2nuwrT5BP7"),  # USDG
        (_DEVNET, "CXk2AMBfi3TwaEL2468s6zP8xq9NxTXjp9gjMgzeUynM"),  # PYUSD
        (_TESTNET, "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),  # USDC
        (_TESTNET, "4F6PM96JJxngmHnZLBh9n58RH4aTVNWvDs2nuwrT5BP7"),  # USDG
        (_TESTNET, "CXk2AMBfi3TwaEL2468s6zP8xq9NxTXjp9gjMgzeUynM"),  # PYUSD
    }
)
"""Dollar tokens of Solana, which have no EIP-712 domain; all count six decimals."""

_EVM_ID = re.compile(r"eip155:[1-9][0-9]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9:_.-]{1,128}")


def network_of(sent: str) -> Network | None:
    """The CAIP-2 id for what was sent; an unknown name stays itself; None for what is no network.

    `eip155:08453` is none: some facilitators read it as 8453, and one chain must have one name.
    """
    known = V1_NAMES.get(sent)
    if known is not None:
        return Network(known)
    if _EVM_ID.fullmatch(sent):
        return Network(sent)
    lowered = sent.lower()
    if lowered.startswith("eip155:") or not _NAME.fullmatch(sent):
        return None
    return Network(V1_NAMES.get(lowered, sent))


def asset_info(network: str, asset: str) -> AssetInfo | None:
    """What the SDK's table knows of an asset; the address in any case."""
    return ASSETS.get((network, asset.lower()))


def dollar_decimals(network: str, asset: str) -> int | None:
    """The decimals of a token that is worth a dollar; None for every other and every unknown one."""
    info = asset_info(network, asset)
    if info is not None:
        return info.decimals if info.dollar else None
    return SPL_DOLLAR_DECIMALS if (network, asset) in SPL_DOLLARS else None
