"""What the operations port is asked and posted, read within bounds; and how that port answers.

A body must say that it is JSON: no web page that an operator has open can then post it unasked.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from guardian.policy.types import nearest

MAX_BODY_BYTES = 16 * 1024

T = TypeVar("T")

Meant = Mapping[str, tuple[Callable[[str], bool], str]]
"""The parts of a query: whether a value can be meant, and what to write instead."""


class Refused(Exception):
    """The request cannot be used: status and why, which `operations_app` answers."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def check_query(request: Request, meant: Meant) -> None:
    """Raises Refused for a part of the query that is not known, which would else select nothing and show
    everything, and for a value that cannot be meant."""
    for name, value in request.query_params.multi_items():
        if name not in meant:
            raise Refused(400, f"{name[:40]}: not known here; {nearest(name[:40], meant)}")
        sound, cure = meant[name]
        if not sound(value):
            raise Refused(400, f"{name}: {value[:40]!r} cannot be used here; {cure}")


async def read_posted(request: Request, kind: type[T]) -> T:
    """The body as what it should be; raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "say content-type: application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, f"at most {MAX_BODY_BYTES} bytes")
    if not body.strip():
        raise Refused(400, "body: nothing was posted; send a JSON object, {} at least")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise Refused(400, f"body: {fault}") from fault


def answer(status: int, content: object) -> Response:
    """A whole answer as JSON."""
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
