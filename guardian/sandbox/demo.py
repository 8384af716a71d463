"""`guardian demo`: one purchase on a slow block, first without the guardian, then through it.

Chain, facilitator, sellers and guardian are real processes, and nothing is told to fail: the blocks are
merely slower than the facilitator's patience. What the transcript claims is read from the chain and from
the sellers' counters afterwards; where it is not so, the demo says so and its exit code is 1.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.table import Table

from guardian.sandbox.buyer_py import Purchase, buy_now
from guardian.sandbox.node import SandboxError
from guardian.sandbox.world import RunningGuardian, RunningSeller, World

BLOCK_S = 12
"""The slow block. The field saw 10 to 28 s; anvil takes whole seconds."""

PATIENCE_S = 3.0
"""The facilitator's deadline. The SDKs repeat a pending settle once, so twice this must be below BLOCK_S."""

PURSE = 1_000_000
PRICE = 10_000
LOOK_S = 0.2
PURCHASE_LIMIT_S = 60.0
MINED_LIMIT_S = 2.0 * BLOCK_S
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Transcript:
    """What happens, line by line with the seconds since the purchase began; colour only on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.began = time.monotonic()

    def chapter(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]")

    def begin(self) -> None:
        self.began = time.monotonic()

    def say(self, who: str, text: str, style: str = "") -> None:
        seconds = time.monotonic() - self.began
        self._console.print(
            f"  {seconds:5.1f} s  {who:<11}  {text}", style=style, highlight=False, soft_wrap=True
        )

    def plain(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        self._console.print(table)


@dataclass(slots=True)
class Side:
    """One half of the comparison: a seller, a payer with a full purse, and where the seller settles."""

    name: str
    seller: RunningSeller
    payer: LocalAccount
    guardian: RunningGuardian | None = None
    purchases: list[Purchase] = field(default_factory=list)


class Witness:
    """Says what is new in the world since it last looked: broadcasts, blocks with money, records."""

    def __init__(self, world: World, side: Side, transcript: Transcript) -> None:
        self._world = world
        self._side = side
        self._transcript = transcript
        self._broadcasts = self._broadcast_count()
        self._transfers = self._transfer_count()
        self._money = ""

    def look(self) -> int:
        """Says the news; the number of this payer's transfers so far."""
        if (money := self._record().get("money", "")) != self._money:
            self._money = money
            self._transcript.say("guardian", SAYS.get(money, f"records the payment as {money}"), "cyan")
        if (broadcasts := self._broadcast_count()) > self._broadcasts:
            self._broadcasts = broadcasts
            self._transcript.say("facilitator", "has sent the payment to the chain and waits for a block")
        if (transfers := self._transfer_count()) > self._transfers:
            self._transfers = transfers
            self._transcript.say("chain", f"a block at last: {_usdc(PRICE)} moved to the seller", "bold")
        return transfers

    def _transfer_count(self) -> int:
        return len(self._world.chain.transfers(payer=self._side.payer.address))

    def _broadcast_count(self) -> int:
        return int(self._world.facilitators[0].counters()["broadcasts"])

    def _record(self) -> dict[str, Any]:
        return newest_record(self._side.guardian) if self._side.guardian else {}


SAYS = {
    "pending": "pending: recorded, then sent to the facilitator",
    "unresolved": "unresolved: the facilitator gave up, which does not mean unpaid",
    "polling": "polling: holds the caller and asks the chain",
    "confirmed_late": "confirmed_late: the transfer stands in a block, the caller gets its answer",
}


def newest_record(guardian: RunningGuardian) -> dict[str, Any]:
    found = guardian.get("/api/settlements?limit=1")["settlements"]
    return dict(found[0]) if found else {}


def _usdc(units: int) -> str:
    return f"{units / 1_000_000:.2f} USDC"


def _purchase(world: World, side: Side, transcript: Transcript) -> Purchase:
    """One purchase by the SDK's client, told as it goes. The next block comes BLOCK_S from now."""
    witness = Witness(world, side, transcript)
    done: list[Purchase] = []

    def work() -> None:
        done.append(buy_now(side.seller.url, side.payer, timeout_s=PURCHASE_LIMIT_S))

    world.chain.set_interval(BLOCK_S)
    transcript.begin()
    transcript.say("client", f"GET /weather, signs {_usdc(PRICE)}")
    # A daemon: Ctrl-C must not wait for a purchase.
    buyer = threading.Thread(target=work, daemon=True)
    buyer.start()
    while buyer.is_alive():
        witness.look()
        buyer.join(LOOK_S)
    witness.look()
    purchase = done[0] if done else Purchase(error="the purchase ended without a word")
    side.purchases.append(purchase)
    _tell_answer(purchase, transcript)
    _wait(lambda: witness.look() >= len(side.purchases), MINED_LIMIT_S)
    return purchase


def _tell_answer(purchase: Purchase, transcript: Transcript) -> None:
    if purchase.delivered:
        transcript.say("client", f"200, delivered: {purchase.body}", "green")
        return
    told = (purchase.receipt or {}).get("errorReason") or purchase.error or purchase.body
    transcript.say("client", f"{purchase.status or 'no answer'}, nothing delivered ({told})", "red")


def _wait(ready: Callable[[], bool], limit_s: float) -> None:
    """Until it is so or the limit passes; what follows checks the facts anyhow."""
    until = time.monotonic() + limit_s
    while not ready() and time.monotonic() < until:
        time.sleep(LOOK_S)


def _without(world: World, transcript: Transcript) -> Side:
    transcript.chapter("Without the guardian: the seller settles at the facilitator")
    seller = world.start_seller("py", world.facilitators[0].url)
    side = Side("without", seller, world.chain.new_payer(PURSE))
    _purchase(world, side, transcript)
    transcript.plain("\n  The client was told 402, so it tries again and signs a new payment.\n")
    _purchase(world, side, transcript)
    return side


def _through(world: World, transcript: Transcript) -> Side:
    transcript.chapter("Through the guardian: the same seller, another facilitator URL")
    guardian = world.start_guardian(world.policy_text())
    seller = world.start_seller("py", guardian.url)
    side = Side("through", seller, world.chain.new_payer(PURSE), guardian)
    _purchase(world, side, transcript)
    return side


def _balances(world: World, sides: tuple[Side, ...]) -> Table:
    table = Table(title="\nWhat the chain and the sellers say")
    for heading in ("", "without the guardian", "through the guardian"):
        table.add_column(heading, justify="right" if heading else "left")
    chain = world.chain
    rows: dict[str, list[str]] = {
        "payer before": [_usdc(PURSE) for _ in sides],
        "payer after": [_usdc(chain.balance(side.payer.address)) for side in sides],
        "seller received": [_usdc(chain.balance(side.seller.pay_to)) for side in sides],
        "purchases tried": [str(len(side.purchases)) for side in sides],
        "transfers on chain": [str(len(chain.transfers(payer=side.payer.address))) for side in sides],
        "deliveries": [str(side.seller.deliveries()) for side in sides],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def _untrue(world: World, without: Side, through: Side) -> list[str]:
    """The claims that the facts do not bear out; empty when all is as shown."""
    chain = world.chain
    kept = chain.transfers(payer=through.payer.address)
    receipt = through.purchases[0].receipt or {}
    record = newest_record(through.guardian) if through.guardian else {}
    claims = {
        "without: neither purchase was delivered": without.seller.deliveries() == 0,
        "without: both purchases were charged": len(chain.transfers(payer=without.payer.address)) == 2,
        "without: the payer is short of two prices": (
            chain.balance(without.payer.address) == PURSE - 2 * PRICE
        ),
        "through: the purchase was delivered once": through.seller.deliveries() == 1,
        "through: the payment was charged once": len(kept) == 1,
        "through: the payer is short of one price": chain.balance(through.payer.address) == PURSE - PRICE,
        "through: the seller has one price": chain.balance(through.seller.pay_to) == PRICE,
        "through: the receipt names the transfer": (
            bool(kept) and receipt.get("transaction") == kept[0].transaction
        ),
        "through: the guardian recorded a late confirmation": record.get("money") == "confirmed_late",
    }
    return [claim for claim, true in claims.items() if not true]


def _play(transcript: Transcript) -> int:
    transcript.plain(
        f"A chain with a block every {BLOCK_S} s, and a facilitator that waits {PATIENCE_S:.0f} s for one."
        "\nStarting both (the first time, npm fetches the chain) ..."
    )
    with World(mining=1.0, confirmation_timeout_s=PATIENCE_S) as world:
        without = _without(world, transcript)
        through = _through(world, transcript)
        transcript.table(_balances(world, (without, through)))
        untrue = _untrue(world, without, through)
        if untrue:
            transcript.plain("\nNot as claimed:", "red")
            for claim in untrue:
                transcript.plain(f"  - {claim}: no", "red")
            transcript.plain(f"The logs of all processes are in {world.directory}")
            return 1
    transcript.plain("\nAll of it checked: paid twice for nothing without, paid once and delivered with.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal ends the demo in order; a second must not end the clearing up."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Play the demo; 0 when everything shown was so, 1 when not, 130 when interrupted."""
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        return _play(Transcript(Console()))
    except SandboxError as error:
        print(f"the demo cannot be set up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process of the demo has been ended", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
