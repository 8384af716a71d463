"""The sandbox's token, which hashes its domain as USDC does, read from a real node."""

import asyncio
from collections.abc import Iterator

import pytest

from guardian.chain.rpc import Endpoints
from guardian.chain.token import Tokens
from guardian.sandbox.chain import Chain
from guardian.wire.names import Address, Network
from guardian.wire.networks import Domain

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Chain(mining=None) as running:
        yield running


@pytest.mark.parametrize("url", ["url", "ws_url"])
def test_the_domain_that_the_token_signs_by_is_read(chain: Chain, url: str):
    async def script() -> None:
        network = Network(chain.network)
        endpoints = Endpoints(network, [getattr(chain, url)])
        tokens = Tokens({network: endpoints}.get)
        signed_by = chain.domain()
        try:
            assert await tokens.domain(network, Address(chain.token), limit_s=5) == Domain(
                signed_by["name"], signed_by["version"]
            )
            assert await tokens.domain(network, Address("0x" + "77" * 20), limit_s=5) is None
        finally:
            await tokens.close()
            await endpoints.close()

    asyncio.run(script())


def test_a_chain_under_another_id_is_not_believed(chain: Chain):
    async def script() -> None:
        network = Network("eip155:8453")
        endpoints = Endpoints(network, [chain.url])
        tokens = Tokens({network: endpoints}.get)
        try:
            assert await tokens.domain(network, Address(chain.token), limit_s=5) is None
        finally:
            await tokens.close()
            await endpoints.close()

    asyncio.run(script())
