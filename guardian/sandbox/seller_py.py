"""A seller on the official Python SDK (v2): GET /weather costs money, GET /_deliveries counts.

python -m guardian.sandbox.seller_py --facilitator URL --port N --pay-to ADDRESS [--price $0.01]
"""

import argparse

import uvicorn
from fastapi import FastAPI
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact import register_exact_evm_server

from guardian.sandbox.counting import Counting


def build(facilitator: str, pay_to: str, price: str, network: str) -> Counting:
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=facilitator)))
    register_exact_evm_server(server)
    option = PaymentOption(scheme="exact", pay_to=pay_to, price=price, network=network)
    routes = {
        "GET /weather": RouteConfig(accepts=option, description="weather", mime_type="application/json")
    }
    api = FastAPI()
    api.middleware("http")(payment_middleware(routes, server))
    counting = Counting(api)

    @api.get("/weather")
    def weather() -> dict[str, object]:
        counting.counts["worked"] += 1
        return {"weather": "sunny", "temperature": 21}

    @api.get("/_deliveries")
    def deliveries() -> dict[str, int]:
        return counting.counts

    return counting


def main() -> None:
    parser = argparse.ArgumentParser(description="A seller on the official Python SDK")
    parser.add_argument("--facilitator", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pay-to", required=True)
    parser.add_argument("--price", default="$0.01")
    parser.add_argument("--network", default="eip155:84532")
    options = parser.parse_args()
    app = build(options.facilitator, options.pay_to, options.price, options.network)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
