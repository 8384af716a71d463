"""The transport for streams to facilitators, and what any failure proves; whole requests take connections.py.

httpx stays the interface (requests, replies, exceptions, respx as its test double); the sockets are
reqwest's, because httpx's own pool collapses under concurrency. pyreqwest ships an httpx transport
too, which cannot be used for money: it raises `httpx.ConnectError` also when the connection breaks
*after* the facilitator has read the request, and lets raw exceptions out while a body is read.
Here the exception says what is proven, and nothing is repeated, redirected or sent by a proxy that
an environment variable names.

No decisions about payments, no retries, no logging.
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
from pyreqwest import exceptions as reqwest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.request import RequestBuilder, StreamRequest
from pyreqwest.response import Response

from guardian import errors

CONNECT_TIMEOUT_S = 5.0
"""Two lost SYNs (1 s, 3 s) fit in. A timeout here proves that nothing was sent."""

IDLE_CONNECTION_S = 4.0
"""Below the 5 s after which uvicorn and Node close: writing into a connection that is just being
closed would turn a settle into a doubt."""

MAX_CONNECTIONS = 512
"""Open requests to one facilitator; half of the usual limit of 1,024 descriptors."""

POOL_TIMEOUT_S = 5.0
"""How long a request waits for one of them before it is given up unsent."""

TOTAL_TIMEOUT = "total_timeout"
"""Request extension, a timedelta: when reqwest drops the request by itself. Needed on each request:
cancelling a pyreqwest call leaves the request running, and its connection taken, to the very end."""

UNBUFFERED = "unbuffered"
"""Request extension: hand out the head, and each chunk, at once. Without it pyreqwest first waits for
64 KiB or the end, which is one hop fewer for small replies and stalls a slow stream."""

PROOF_OF_NO_CONNECTION = "client error (Connect)"
"""hyper-util's words for an error before there was a connection (DNS, TCP, TLS); everything later is
`client error (SendRequest)`. Should the words ever change, each failure becomes a lost reply."""

CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""RFC 9110 §5.5 forbids them in header values."""

NOT_SENT: tuple[type[Exception], ...] = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
"""What proves that the facilitator received nothing. The default is the doubt. `ProxyError` is left
out: no proxy is ever used, so nothing here could vouch for it."""


def failure(exc: Exception, timeout_s: float) -> errors.NotSent | errors.ReplyLost:
    """Translate what a transport, or the deadline of `timeout_s`, raised into what it proves."""
    if type(exc) is TimeoutError:
        return errors.ReplyLost(f"no whole reply within {timeout_s:g} s", timed_out=True)
    detail = f"{type(exc).__name__}: {exc}".removesuffix(": ")
    if isinstance(exc, NOT_SENT):
        return errors.NotSent(detail)
    return errors.ReplyLost(detail, timed_out=isinstance(exc, httpx.TimeoutException))


def default_transport() -> httpx.AsyncBaseTransport:
    """HTTP/1.1, certificates always verified, no redirects, no proxies, no cookies."""
    builder = (
        ClientBuilder()
        .http1_only()
        .no_proxy()
        .follow_redirects(False)
        .referer(False)
        .user_agent("payment-guardian")
        .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
        .pool_timeout(timedelta(seconds=POOL_TIMEOUT_S))
        .pool_idle_timeout(timedelta(seconds=IDLE_CONNECTION_S))
        .max_connections(MAX_CONNECTIONS)
    )
    return ReqwestTransport(builder.build())


class ReqwestTransport(httpx.AsyncBaseTransport):
    """reqwest behind httpx's interface, with exceptions that prove what they say."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send once. Content-encoding of the reply is undone, its header removed."""
        prepared = self._prepare(request)
        exchange = prepared.build_streamed()
        try:
            response = await exchange.__aenter__()
        except reqwest.PyreqwestError as exc:
            raise _as_httpx(exc, request) from exc
        return httpx.Response(
            response.status,
            headers=_headers(response),
            stream=_Body(response, exchange, request),
            request=request,
        )

    def _prepare(self, request: httpx.Request) -> RequestBuilder:
        """Everything up to here happens in memory: what fails here was not sent."""
        try:
            builder = self._with_headers(request)
            if (limit := request.extensions.get(TOTAL_TIMEOUT)) is not None:
                builder = builder.timeout(limit)
            if request.extensions.get(UNBUFFERED):
                builder = builder.streamed_read_buffer_limit(0)
            try:
                return builder.body_bytes(request.content)
            except httpx.RequestNotRead:
                return builder.body_stream(request.stream)
        except (reqwest.BuilderError, ValueError) as exc:
            raise httpx.UnsupportedProtocol("the request cannot be written as HTTP", request=request) from exc

    def _with_headers(self, request: httpx.Request) -> RequestBuilder:
        """A header that HTTP forbids is left out: no caller may make a facilitator look unreachable."""
        method, url, raw = request.method, str(request.url), request.headers.raw
        try:
            return self._client.request(method, url).headers(_text(raw))
        except ValueError:
            writable = [(name, value) for name, value in raw if not CONTROL_BYTES.search(value)]
            return self._client.request(method, url).headers(_text(writable))

    async def aclose(self) -> None:
        await self._client.close()


class _Body(httpx.AsyncByteStream):
    """The body, and the exchange to be left once it is read or given up."""

    def __init__(self, response: Response, exchange: StreamRequest, request: httpx.Request) -> None:
        self._response = response
        self._exchange = exchange
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = self._response.body_reader
        try:
            while (chunk := await reader.read_chunk()) is not None:
                yield bytes(chunk)
        except reqwest.PyreqwestError as exc:
            raise _after_sending(exc, self._request) from exc

    async def aclose(self) -> None:
        await self._exchange.__aexit__(None, None, None)


def _as_httpx(exc: reqwest.PyreqwestError, request: httpx.Request) -> httpx.RequestError:
    """Before the reply's head: only these three prove that nothing was sent."""
    if isinstance(exc, reqwest.PoolTimeoutError):
        return httpx.PoolTimeout("no free connection", request=request)
    if isinstance(exc, reqwest.BuilderError):
        return httpx.UnsupportedProtocol("the request cannot be written as HTTP", request=request)
    if PROOF_OF_NO_CONNECTION in _causes(exc):
        timed_out = isinstance(exc, TimeoutError)
        return (httpx.ConnectTimeout if timed_out else httpx.ConnectError)(_reason(exc), request=request)
    return _after_sending(exc, request)


def _after_sending(exc: reqwest.PyreqwestError, request: httpx.Request) -> httpx.RequestError:
    if isinstance(exc, reqwest.DecodeError):
        return httpx.DecodingError(_reason(exc), request=request)
    if isinstance(exc, TimeoutError):
        return httpx.ReadTimeout(_reason(exc), request=request)
    return httpx.ReadError(_reason(exc), request=request)


def _causes(exc: reqwest.PyreqwestError) -> list[str]:
    """From the outermost to the innermost; the first one names the URL, which may hold a secret."""
    details = getattr(exc, "details", None) or {}
    return [cause["message"] for cause in details.get("causes") or []]


def _reason(exc: reqwest.PyreqwestError) -> str:
    causes = _causes(exc)
    return causes[-1] if len(causes) > 1 else exc.message


def _text(raw: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """reqwest takes text and writes UTF-8; other bytes cannot be passed and become it."""
    try:
        return [(name.decode(), value.decode()) for name, value in raw]
    except UnicodeDecodeError:
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode(), value.encode()) for name, value in response.headers.items()]
    except ValueError:
        return _readable_headers(response)


def _readable_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """A reply with an odd header is still a reply: leave out what cannot be read."""
    found: list[tuple[bytes, bytes]] = []
    for name in dict.fromkeys(response.headers.keys()):
        try:
            found += [(name.encode(), value.encode()) for value in response.get_header_all(name)]
        except ValueError:
            continue
    return found
