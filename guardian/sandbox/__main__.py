"""`python -m guardian.sandbox up`: the world on free ports until Ctrl-C, its URLs on the screen.

Options: --seller py|ts|v1 (repeatable), --facilitators N, --mining SECONDS,
--direct (no guardian, for comparison).
"""

import argparse
import signal
import sys
import threading
from importlib.util import find_spec

from guardian.sandbox.node import SandboxError
from guardian.sandbox.world import World


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m guardian.sandbox", description="A payment world of real processes"
    )
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--seller", action="append", choices=["py", "ts", "v1"], help="default: py")
    parser.add_argument("--facilitators", type=int, default=1)
    parser.add_argument("--mining", type=float, default=1.0, help="seconds per block")
    parser.add_argument(
        "--direct", action="store_true", help="sellers talk to the facilitator, without a guardian"
    )
    options = parser.parse_args()
    if find_spec("x402") is None:
        print("x402 is not installed; install payment-guardian[sandbox]", file=sys.stderr)
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with World(mining=options.mining, facilitators=options.facilitators) as world:
            _start(world, options.seller or ["py"], options.direct)
            stopped.wait()
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start(world: World, sellers: list[str], direct: bool) -> None:
    settle_url = world.facilitators[0].url
    print(f"chain        {world.chain.url}  ({world.chain.network}, token {world.chain.token})")
    for facilitator in world.facilitators:
        print(f"facilitator  {facilitator.url}  (faults: POST {facilitator.url}/_control)")
    if not direct:
        guardian = world.start_guardian(world.policy_text())
        settle_url = guardian.url
        print(f"guardian     {guardian.url}  operations {guardian.ops_url}")
    for kind in sellers:
        seller = world.start_seller(kind, settle_url)  # type: ignore[arg-type]  # argparse checked the choice
        print(f"seller {kind:4}  {seller.url}  paid to {seller.pay_to}")
    payer = world.chain.new_payer()
    print(f"payer        {payer.address}  key 0x{bytes(payer.key).hex()}")
    print(f"logs         {world.directory}\nready; Ctrl-C ends it", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
