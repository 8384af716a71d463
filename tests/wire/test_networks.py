import warnings
from typing import Any

import pytest

from guardian.wire.networks import ASSETS, V1_NAMES, asset_info, network_of


@pytest.mark.parametrize(
    ("sent", "network"),
    [
        ("base", "eip155:8453"),
        ("Base-Sepolia", "eip155:84532"),
        ("eip155:1", "eip155:1"),
        ("solana", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
        ("tvm:-239", "tvm:-239"),
        ("brand-new", "brand-new"),
        ("story", "story"),  # the SDKs give it different chain ids
    ],
)
def test_known_names_become_caip2_and_unknown_ones_stay(sent: str, network: str):
    assert network_of(sent) == network


@pytest.mark.parametrize(
    "sent", ["", "eip155:", "eip155:0", "eip155:01", "eip155:1x", "Eip155:1", "a b", "a/b", "é"]
)
def test_other_spellings_of_a_chain_are_no_network(sent: str):
    assert network_of(sent) is None


def test_asset_is_found_in_any_case():
    info = asset_info("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
    assert info is not None
    assert (info.name, info.version, info.decimals, info.symbol) == ("USD Coin", "2", 6, "USDC")
    assert asset_info("eip155:8453", "0x00") is None


def test_tables_agree_with_the_sdk():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constants = pytest.importorskip("x402.mechanisms.evm.v1.constants")
        assets = pytest.importorskip("x402.mechanisms.evm.default_assets").DEFAULT_ASSETS
    disputed = {"story", "educhain", "skale-base-sepolia"}
    theirs = {name: f"eip155:{chain}" for name, chain in constants.V1_NETWORK_CHAIN_IDS.items()}
    assert {name: V1_NAMES[name] for name in theirs if name not in disputed} == {
        name: chain for name, chain in theirs.items() if name not in disputed
    }
    assert {key: (info.name, info.version, info.decimals) for key, info in ASSETS.items()} == {
        (network, _of(asset, "address", "asset").lower()): tuple(
            _of(asset, name) for name in ("name", "version", "decimals")
        )
        for network, listed in assets.items()
        for asset in (listed if isinstance(listed, list | tuple) else [listed])
    }


def _of(asset: Any, *names: str) -> Any:
    """The first of some names, in a mapping or an object: the SDK has had both."""
    values = asset if isinstance(asset, dict) else vars(asset)
    return next(values[name] for name in names if name in values)
