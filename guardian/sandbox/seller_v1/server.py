"""A seller on the old SDK, x402 1.0.0 (v1), which gives its facilitator 5 s (httpx's default).

Runs by its path in a venv of its own (see venv.py): nothing of the guardian here but counting.py.

python server.py --facilitator URL --port N --pay-to ADDRESS [--price $0.01]
"""

import argparse
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from x402.fastapi.middleware import require_payment  # type: ignore[import-not-found,unused-ignore]

sys.path.insert(0, str(Path(__file__).parents[1]))
from counting import Counting  # type: ignore[import-not-found,unused-ignore]


def build(facilitator: str, pay_to: str, price: str) -> Counting:
    api = FastAPI()
    api.middleware("http")(
        require_payment(
            path="/weather",
            price=price,
            pay_to_address=pay_to,
            network="base-sepolia",
            facilitator_config={"url": facilitator},
        )
    )
    counting = Counting(api)

    @api.get("/weather")
    def weather() -> dict[str, object]:
        counting.counts["worked"] += 1
        return {"weather": "sunny", "temperature": 21}

    @api.get("/_deliveries")
    def deliveries() -> dict[str, int]:
        counts: dict[str, int] = counting.counts
        return counts

    return counting


def main() -> None:
    parser = argparse.ArgumentParser(description="A seller on x402 1.0.0")
    parser.add_argument("--facilitator", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pay-to", required=True)
    parser.add_argument("--price", default="$0.01")
    options = parser.parse_args()
    app = build(options.facilitator, options.pay_to, options.price)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
