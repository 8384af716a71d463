"""A guardian that is killed between a move and its event: the next one tells of it."""

import asyncio
import json
import signal
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from tests.flow.receiver import SECRET, Receiver
from tests.flow.scene import signed_payment
from tests.test_serve import FLAGS, Running, guardian

POLICY = """\
version: 1
facilitators: [{{name: main, url: "http://127.0.0.1:1"}}]
retry: {{attempts: 1}}
webhooks: [{{name: ops, url: "{url}", events: [payment.failed], secret: {{env: HOOK_SECRET}}}}]
"""


class Late(Receiver):
    """Nobody listens at its place until `begin`."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._at = self._server.sockets[0].getsockname()[1]
        self._server.close()
        return self

    async def begin(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._at)


def ask(running: Running, flag: str, method: str, path: str, body: bytes | None = None) -> object:
    with closing(HTTPConnection("127.0.0.1", running.ports[flag], timeout=30)) as connection:
        connection.request(method, path, body, {"content-type": "application/json"})
        return json.loads(connection.getresponse().read())


def refused_then_killed(at: Path, flags: dict[str, str], environ: dict[str, str]) -> dict[str, int]:
    """A settle that no facilitator takes, and what waited for the webhook at the end."""
    with guardian(at, flags, environ) as running:
        assert ask(running, "--listen", "POST", "/settle", signed_payment())["success"] is False  # type: ignore[index]
        shown = ask(running, "--ops-listen", "GET", "/api/webhooks")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(30)
    return dict(shown["webhooks"][0])  # type: ignore[index]


def test_an_event_outlives_a_guardian_that_was_killed(tmp_path: Path) -> None:
    flags = FLAGS | {"--store": f"sqlite:///{tmp_path}/guardian.db", "--policy": "hooks.yaml"}
    environ = {"HOOK_SECRET": SECRET}

    async def script() -> None:
        async with asyncio.timeout(60), Late() as receiver:
            (tmp_path / "hooks.yaml").write_text(POLICY.format(url=receiver.url))
            shown = await asyncio.to_thread(refused_then_killed, tmp_path, flags, environ)
            assert (shown["waiting"], shown["dead"], receiver.got) == (1, 0, [])
            await receiver.begin()
            process = guardian(tmp_path, flags, environ)
            running = await asyncio.to_thread(process.__enter__)
            try:
                (got,) = await receiver.until(1)
                assert got.verified()["type"] == "payment.failed"
            finally:
                assert await asyncio.to_thread(running.end, signal.SIGTERM) == 0
                await asyncio.to_thread(process.__exit__, None, None, None)

    asyncio.run(script())
