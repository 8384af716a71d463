"""What is posted to the operations port, read within bounds; and how that port answers.

A body must say that it is JSON: no web page that an operator has open can then post it unasked.
"""

from typing import TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

MAX_BODY_BYTES = 16 * 1024

T = TypeVar("T")


class Refused(Exception):
    """The request cannot be used: status and why, which `operations_app` answers."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def read_posted(request: Request, kind: type[T]) -> T:
    """The body as what it should be; raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "say content-type: application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, f"at most {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise Refused(400, f"body: {fault}") from fault


def answer(status: int, content: object) -> Response:
    """A whole answer as JSON."""
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
