"""What one writes without a guardian: a bare Starlette proxy over httpx or aiohttp, on uvicorn.

    python bench/proxies.py httpx|aiohttp PORT UPSTREAM

They forward the bytes and keep no record.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import aiohttp
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "host",
    "content-length",
}

Handler = Callable[[Request], Awaitable[Response]]


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in HOP_BY_HOP}


def over_httpx(upstream: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient() as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        url, headers = upstream + request.url.path, passed_on(request.headers.items())
        reply = await client.post(url, content=await request.body(), headers=headers)
        return Response(reply.content, reply.status_code, passed_on(reply.headers.items()))

    return Starlette(routes=[Route("/{path:path}", forward, methods=["POST"])], lifespan=lifespan)


def over_aiohttp(upstream: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        client: aiohttp.ClientSession = request.app.state.client
        url, headers = upstream + request.url.path, passed_on(request.headers.items())
        async with client.post(url, data=await request.body(), headers=headers) as reply:
            body = await reply.read()
            return Response(body, reply.status, passed_on(reply.headers.items()))

    return Starlette(routes=[Route("/{path:path}", forward, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    kind, port, upstream = sys.argv[1:]
    app = {"httpx": over_httpx, "aiohttp": over_aiohttp}[kind](upstream)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
