"""What the agent plane says itself: problem details (RFC 9457), never a secret, never an upstream's URL."""

import orjson
from starlette.types import Send

PROBLEM = (b"content-type", b"application/problem+json")


async def write_problem(
    send: Send,
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    head: bool = False,
    **more: object,
) -> None:
    """One whole answer. kind: its stable name; more: further members; head: it answers a HEAD."""
    said = {"type": f"urn:payment-guardian:{kind}", "title": title, "status": status, "detail": detail}
    body = orjson.dumps({**said, **more})
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [PROBLEM, length, *headers]})
    await send({"type": "http.response.body", "body": b"" if head else body})
