import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.chain.rpc import Endpoints
from guardian.chain.token import (
    MAX_KNOWN,
    MAX_READS,
    MAX_READS_PER_MINUTE,
    SILENT_S,
    Tokens,
)
from guardian.chain.wires import Call
from guardian.wire.names import Address, Network
from guardian.wire.networks import Domain, asset_info
from tests.chain.scripted_node import ASSET, Node

BASE = Network("eip155:8453")
OTHER = Network("eip155:84532")
USDC = Address("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913")
EIP712_DOMAIN, NAME, VERSION, SEPARATOR = (
    "0x" + keccak(text=name + "()")[:4].hex()
    for name in ("eip712Domain", "name", "version", "DOMAIN_SEPARATOR")
)


def string(text: str | bytes) -> bytes:
    return encode(["bytes"], [text.encode() if isinstance(text, str) else text])


def announced(
    name: str | bytes = "Gold", version: str = "3", fields: int = 0x0F, chain: int = 8453, asset: str = ASSET
) -> bytes:
    """The answer of eip712Domain()."""
    raw = name.encode() if isinstance(name, str) else name
    return encode(
        ["bytes1", "bytes", "string", "uint256", "address", "bytes32", "uint256[]"],
        [bytes([fields]), raw, version, chain, asset, b"\0" * 32, []],
    )


def preimage(name: str, version: str | None, chain: int = 8453, asset: str = ASSET) -> bytes:
    typed = "EIP712Domain(string name," + ("string version," if version is not None else "")
    typed += "uint256 chainId,address verifyingContract)"
    words = [keccak(text=typed), keccak(text=name)]
    words += [keccak(text=version)] if version is not None else []
    return b"".join([*words, encode(["uint256", "address"], [chain, asset])])


def proof(*domain: Any, **place: Any) -> bytes:
    return keccak(preimage(*domain, **place))


class Ledger(Node):
    """A node with token contracts; counts the reads, and holds them back while `gate` is set."""

    def __init__(self, chain_id: int = 8453, **contracts: dict[str, bytes]) -> None:
        super().__init__(chain_id=chain_id)
        self.contracts: dict[str, dict[str, bytes]] = contracts
        self.reads: list[str] = []
        self.gas: set[str] = set()
        self.most_at_once = 0
        self.at_once = 0
        self.gate: asyncio.Event | None = None
        self.raw: str | None = None

    async def __call__(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        asked = [call for call in calls if call.method == "eth_call"]
        if asked:
            self.reads.append(asked[0].params[0]["to"])
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            if self.gate is not None:
                await self.gate.wait()
            self.at_once -= 1
        return await super().__call__(calls)

    def eth_call(self, call: dict[str, Any], block: str) -> str:
        self.gas.add(call["gas"])
        if self.raw is not None:
            return self.raw
        contract = self.contracts.get(call["to"])
        if contract is None:
            return "0x"
        if call["data"] not in contract:
            raise LookupError("execution reverted")
        return "0x" + contract[call["data"]].hex()


class Stage:
    """Tokens over scripted nodes, with a clock that the test moves."""

    def __init__(self, *nodes: Ledger, network: Network = BASE) -> None:
        self.now = 0.0
        self.nodes = nodes or (Ledger(),)
        self.node = self.nodes[0]
        self.errors: list[str] = []
        wires = [(f"node{number}", node) for number, node in enumerate(self.nodes)]
        self.endpoints = Endpoints(network, [], clock=lambda: self.now, wires=wires)
        self.tokens = Tokens(
            {network: self.endpoints}.get, clock=lambda: self.now, on_error=self.errors.append
        )

    async def domain(
        self, asset: str = ASSET, network: Network = BASE, limit_s: float = 5.0
    ) -> Domain | None:
        return await self.tokens.domain(network, Address(asset), limit_s=limit_s)


def domain_of(contract: dict[str, bytes], asset: str = ASSET) -> Domain | None:
    return play(lambda stage: stage.domain(asset), Ledger(**{asset.lower(): contract}))


def play(script: Callable[[Stage], Awaitable[Any]], *nodes: Ledger, network: Network = BASE) -> Any:
    async def run() -> Any:
        stage = Stage(*nodes, network=network)
        try:
            return await script(stage)
        finally:
            await stage.tokens.close()
            await stage.endpoints.close()

    return asyncio.run(run())


def asset(number: int) -> str:
    return f"0x{number:040x}"


@pytest.mark.parametrize(
    ("contract", "domain"),
    [
        ({EIP712_DOMAIN: announced()}, Domain("Gold", "3")),
        ({EIP712_DOMAIN: announced(), SEPARATOR: proof("Gold", "3")}, Domain("Gold", "3")),
        ({EIP712_DOMAIN: announced(fields=0x0D), NAME: string("x")}, Domain("Gold", None)),
        ({EIP712_DOMAIN: announced(fields=0x1B)}, Domain("Gold", "3", whole=False)),
        (
            {NAME: string("Gold"), VERSION: string("2"), SEPARATOR: proof("Gold", "2")},
            Domain("Gold", "2"),
        ),
        ({NAME: string("Gold"), SEPARATOR: proof("Gold", "1")}, Domain("Gold", "1")),
        ({NAME: string("Gold"), SEPARATOR: proof("Gold", None)}, Domain("Gold", None)),
        ({NAME: b"Gold".ljust(32, b"\0"), SEPARATOR: proof("Gold", "1")}, Domain("Gold", "1")),
        ({NAME: string("USD₮0"), SEPARATOR: proof("USD₮0", "1")}, Domain("USD₮0", "1")),
    ],
)
def test_a_contracts_word_is_read_in_every_way_that_tokens_have(contract: dict[str, bytes], domain: Domain):
    assert domain_of(contract) == domain


@pytest.mark.parametrize(
    "contract",
    [
        {},
        {NAME: string("Renamed"), VERSION: string("2"), SEPARATOR: proof("Gold", "2")},
        {NAME: string("Gold"), VERSION: string("2")},
        {EIP712_DOMAIN: announced(), SEPARATOR: proof("Silver", "3")},
        {EIP712_DOMAIN: announced(chain=1)},
        {EIP712_DOMAIN: announced(asset="0x" + "11" * 20)},
        {EIP712_DOMAIN: announced(fields=0x0E)},
        {EIP712_DOMAIN: announced(name=b"\xff\xfe")},
        {EIP712_DOMAIN: announced(name="a\u202eb")},
        {EIP712_DOMAIN: announced(name="x" * 5000)},
        {EIP712_DOMAIN: announced(name="x" * 300)},
        {EIP712_DOMAIN: announced()[:-200]},
        {EIP712_DOMAIN: b"\xff" * 500},
        {NAME: b"\xff" * 96, VERSION: b"", SEPARATOR: b"\1" * 32},
        {NAME: string("Gold"), SEPARATOR: b"\1" * 64},
    ],
)
def test_what_cannot_be_believed_is_no_word(contract: dict[str, bytes]):
    assert domain_of(contract) is None


def test_a_renamed_token_keeps_the_domain_that_the_table_knows():
    contract = {
        NAME: string("USDC"),
        VERSION: string("2"),
        SEPARATOR: proof("USD Coin", "2", asset=USDC),
    }
    assert domain_of(contract, USDC) == Domain("USD Coin", "2")


@pytest.mark.parametrize(
    ("network", "asset", "published"),
    [
        ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e", "71f17a3b2ff373b8"),
        ("eip155:137", "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359", "caa2ce1a5703ccbe"),
        ("eip155:42161", "0xaf88d065e77c8cc2239327c5edb3a432268e5831", "08d11903f8419e68"),
        ("eip155:421614", "0x75faf114eafb1bdbe2f0316df893fd58ce46aa4d", "85944e1292d00773"),
        ("eip155:42220", "0xceba9300f2b948710d2653dd7b07f33a8b32118c", "b2ce31d2838445fa"),
        ("eip155:42220", "0x48065fbbe25f71c9282ddf5e1cd6d6a887483d5e", "bcb4d62e4834b598"),
        ("eip155:5042002", "0x3600000000000000000000000000000000000000", "361191522483d32a"),
    ],
)
def test_the_tables_domains_hash_to_what_the_contracts_publish(network: str, asset: str, published: str):
    """The first half of DOMAIN_SEPARATOR() of the deployed contracts, as block explorers show it."""
    info = asset_info(network, asset)
    assert info is not None
    found = proof(info.name, info.version, chain=int(network[7:]), asset=asset)
    assert found.hex().startswith(published)
    node = Ledger(chain_id=int(network[7:]), **{asset: {SEPARATOR: found}})
    read = play(lambda stage: stage.domain(asset, Network(network)), node, network=Network(network))
    assert read == info.domain


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([EIP712_DOMAIN, NAME, VERSION, SEPARATOR]))
def test_no_answer_breaks_the_reader(answer: bytes, question: str):
    contract = {EIP712_DOMAIN: announced(fields=0x0E), NAME: string("Gold"), question: answer}
    assert domain_of(contract) is None


@pytest.mark.parametrize("raw", ["0x", "0x0", "", "nonsense", "0x" + "00" * 9000, "0xzz", "0x" + "00" * 2000])
def test_nonsense_of_a_node_is_no_word(raw: str):
    node = Ledger()
    node.raw = raw
    assert play(lambda stage: stage.domain(), node) is None


def test_an_account_without_code_is_asked_once_and_left_alone_for_a_while():
    async def script(stage: Stage) -> None:
        assert await stage.domain() is None
        assert await stage.domain() is None
        assert len(stage.node.reads) == 1
        stage.node.contracts[ASSET] = {EIP712_DOMAIN: announced()}
        stage.now += SILENT_S + 1
        assert await stage.domain() == Domain("Gold", "3")

    play(script)


def test_a_domain_is_read_once_whatever_case_names_it():
    async def script(stage: Stage) -> None:
        for name in (ASSET, "0x" + ASSET[2:].upper(), ASSET):
            assert await stage.domain(name) == Domain("Gold", "3")
        stage.now += 10**6
        stage.node.down = True
        assert await stage.domain() == Domain("Gold", "3")
        assert stage.tokens.known(BASE, ASSET) == Domain("Gold", "3")
        assert len(stage.node.reads) == 1

    play(script, Ledger(**{ASSET: {EIP712_DOMAIN: announced()}}))


def test_all_who_ask_at_once_share_one_read():
    async def script(stage: Stage) -> None:
        found = await asyncio.gather(*(stage.domain() for _ in range(50)))
        assert found == [Domain("Gold", "3")] * 50
        assert len(stage.node.reads) == 1

    play(script, Ledger(**{ASSET: {EIP712_DOMAIN: announced()}}))


def test_what_is_asked_on_the_side_is_read_once_and_known_to_the_next():
    async def script(stage: Stage) -> None:
        assert stage.tokens.known_or_asked(BASE, ASSET) is None
        while stage.tokens.known(BASE, ASSET) is None:
            await asyncio.sleep(0)
        assert stage.tokens.known_or_asked(BASE, ASSET.upper().replace("X", "x")) == Domain("Gold", "3")

    play(script, Ledger(**{ASSET: {EIP712_DOMAIN: announced()}}))


def test_a_token_that_says_nothing_is_asked_once_on_the_side():
    async def script(stage: Stage) -> None:
        assert stage.tokens.known_or_asked(BASE, ASSET) is None
        assert await stage.domain() is None
        stage.now += SILENT_S + 1
        sent = len(stage.node.messages)
        assert stage.tokens.known_or_asked(BASE, ASSET) is None
        await asyncio.sleep(0)  # a read that had begun would have sent by now
        await asyncio.sleep(0)
        assert len(stage.node.messages) == sent

    play(script, Ledger())


def test_a_caller_waits_no_longer_than_it_said_and_the_read_goes_on():
    async def script(stage: Stage) -> None:
        stage.node.gate = asyncio.Event()
        assert await stage.domain(limit_s=0.01) is None
        assert stage.tokens.known(BASE, ASSET) is None
        late = asyncio.create_task(stage.domain())
        leaver = asyncio.create_task(stage.domain())
        await asyncio.sleep(0)
        leaver.cancel()
        stage.node.gate.set()
        assert await late == Domain("Gold", "3")
        assert len(stage.node.reads) == 1

    play(script, Ledger(**{ASSET: {EIP712_DOMAIN: announced()}}))


def test_another_endpoint_is_asked_where_one_refuses_or_fails():
    async def script(stage: Stage) -> None:
        await stage.endpoints.refresh()
        assert await stage.domain() == Domain("Gold", "3")

    for fault in ("refuses", "fails_on"):
        bad, good = Ledger(), Ledger(**{ASSET: {EIP712_DOMAIN: announced()}})
        setattr(bad, fault, {"eth_call"})
        play(script, bad, good)


def test_a_node_that_is_down_costs_no_exception_and_is_asked_again_later():
    async def script(stage: Stage) -> None:
        stage.node.down = True
        assert await stage.domain() is None
        stage.node.down = False
        assert await stage.domain() is None
        stage.now += SILENT_S + 1
        assert await stage.domain() == Domain("Gold", "3")

    play(script, Ledger(**{ASSET: {EIP712_DOMAIN: announced()}}))


def test_a_fault_of_the_reader_is_told_and_costs_no_payment():
    class Broken(Ledger):
        def eth_call(self, call: dict[str, Any], block: str) -> str:
            raise RuntimeError("scripted")

    async def script(stage: Stage) -> None:
        assert await stage.domain() is None
        assert stage.errors == [f"{BASE}: a token could not be read: RuntimeError"]

    play(script, Broken())


@pytest.mark.parametrize("name", ["", "0x12", "0x" + "zz" * 20, "So1ana", "0x" + "a5" * 21])
def test_what_is_no_address_is_never_sent_to_a_node(name: str):
    async def script(stage: Stage) -> None:
        assert await stage.domain(name) is None
        assert stage.node.messages == []

    play(script)


def test_a_network_without_endpoints_has_no_word():
    assert play(lambda stage: stage.domain(network=OTHER)) is None


def test_random_assets_make_no_storm_of_reads():
    async def script(stage: Stage) -> None:
        stage.node.gate = asyncio.Event()
        asked = [stage.domain(asset(number), limit_s=0.01) for number in range(500)]
        assert set(await asyncio.gather(*asked)) == {None}
        assert stage.node.most_at_once == MAX_READS
        stage.node.gate.set()
        for number in [*range(MAX_READS), *range(500, 1000)]:
            await stage.domain(asset(number))
        assert len(stage.node.reads) == MAX_READS_PER_MINUTE
        stage.now += 60
        await stage.domain(asset(1000))
        assert asset(1000) in stage.node.reads

    play(script)


def test_an_asset_of_the_table_is_read_even_while_strangers_storm():
    async def script(stage: Stage) -> None:
        for number in range(100):
            await stage.domain(asset(number))
        assert await stage.domain(USDC) == Domain("USD Coin", "2")

    play(script, Ledger(**{USDC: {EIP712_DOMAIN: announced("USD Coin", "2", asset=USDC)}}))


def test_what_is_remembered_is_bounded():
    async def script(stage: Stage) -> None:
        for number in range(MAX_KNOWN + 10):
            stage.node.contracts[asset(number)] = {EIP712_DOMAIN: announced(asset=asset(number))}
            stage.now += 1
            await stage.domain(asset(number))
            stage.tokens.known(BASE, Address(asset(5)))
        kept = [
            number for number in range(MAX_KNOWN + 10) if stage.tokens.known(BASE, Address(asset(number)))
        ]
        assert len(kept) == MAX_KNOWN
        assert 5 in kept

    play(script)


def test_a_hostile_contract_gets_little_gas():
    async def script(stage: Stage) -> None:
        await stage.domain()
        assert {int(gas, 16) for gas in stage.node.gas} == {1_000_000}

    play(script)
