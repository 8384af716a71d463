"""`guardian webhooks list | retry` and the operations port behind them; and what docs/webhooks.md shows."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardian.cli import main
from guardian.facilitator.circuit import CircuitKey
from guardian.flow.outbox import Outbox
from guardian.flow.webhook_signature import read_keys, signed_headers
from guardian.policy.webhooks import WebhookPolicy
from guardian.settlement.notice import Kind, Notice
from guardian.settlement.states import Answer, Money
from tests.edge.edge_stage import Stage
from tests.flow.receiver import SECRET
from tests.store.conftest import settlement

PAGE = (Path(__file__).parents[1] / "docs" / "webhooks.md").read_text()
EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


def code(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Answers(BaseHTTPRequestHandler):
    """An operations port that answers as the script says, and remembers what it was told."""

    replies: dict[str, tuple[int, object]]
    told: list[object]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer()

    def _answer(self) -> None:
        status, content = self.replies[self.path]
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


REMOVED = {"name": "old", "waiting": 7, "dead": 3}
DEAD = {"id": "msg_1", "webhook": "ops", "event": "payment.orphaned", "about": "k", "at": 1_795_165_200.0}
SHOWN = {
    "webhooks": [{"name": "ops", "events": ["payment.orphaned"], "waiting": 2, "dead": 1}],
    "removed": [REMOVED],
    "dead": [DEAD | {"attempts": 15, "why": "http 500"}],
}


@pytest.fixture
def ops() -> Iterator[tuple[str, type[Answers]]]:
    handler = type("Handler", (Answers,), {"replies": {"/api/webhooks": (200, SHOWN)}, "told": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def test_webhooks_are_listed_with_what_was_laid_aside(
    ops: tuple[str, type[Answers]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["webhooks", "list", "--ops", ops[0]]) == 0
    out = capsys.readouterr().out
    assert "ops\t2\t1\tpayment.orphaned" in out
    assert "forget NAME" in out
    assert "old\t7\t3\n" in out
    assert "msg_1\tops\tpayment.orphaned\t2026-11-20T09:00:00Z\t15\thttp 500" in out
    assert main(["webhooks", "list", "--json", "--ops", ops[0]]) == 0
    assert json.loads(capsys.readouterr().out) == SHOWN


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["msg_1"], {"ids": ["msg_1"], "webhook": ""}),
        (["--webhook", "ops"], {"ids": [], "webhook": "ops"}),
        (["--all"], {"ids": [], "webhook": ""}),
    ],
)
def test_what_was_laid_aside_is_sent_again(
    args: list[str], told: object, ops: tuple[str, type[Answers]], capsys: pytest.CaptureFixture[str]
) -> None:
    ops[1].replies["/api/webhooks/retry"] = (200, {"retried": [DEAD], "count": 1})
    assert main(["webhooks", "retry", *args, "--ops", ops[0]]) == 0
    assert (ops[1].told, capsys.readouterr().out) == ([told], "1 events are sent again\n")


@pytest.mark.parametrize(
    ("args", "reply", "said"),
    [
        ([], (200, {}), "name events"),
        (["msg_1", "--all"], (200, {}), "name events"),
        (["msg_9"], (200, {"retried": [], "count": 0}), "not all of them"),
        (["--webhook", "x"], (404, {"error": "no webhook x"}), "none called 'x'"),
        (["--all"], (200, []), "knows no webhooks"),
    ],
)
def test_what_cannot_be_sent_again_is_said_in_one_line(
    args: list[str],
    reply: tuple[int, object],
    said: str,
    ops: tuple[str, type[Answers]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ops[1].replies["/api/webhooks/retry"] = reply
    assert main(["webhooks", "retry", *args, "--ops", ops[0]]) == 2
    assert said in capsys.readouterr().err


class Hooked(Stage):
    """A guardian with a webhook to nobody."""

    def _build(self, urls: dict[str, str]) -> Any:
        guardian = super()._build(urls)
        place = {"env": "HOOK_SECRET"}
        chosen = {"name": "ops", "url": "http://127.0.0.1:9", "events": ["payment.failed"], "secret": place}
        hooks = (WebhookPolicy.model_validate(chosen),)
        self.policy = guardian.parts.policy.model_copy(update={"webhooks": hooks})
        return guardian


def test_the_operations_port_shows_them_and_sends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)

    async def script(stage: Hooked, http: httpx.AsyncClient) -> None:
        await stage.guardian.adopt(stage.policy)
        dead = Notice(
            id="msg_1", hook="ops", subject="k", kind=Kind.FAILED, at=1.0, body="{}", why="x", dead=True
        )
        await stage.store.notices.keep([dead])
        shown = (await http.get("/api/webhooks")).json()
        assert shown["webhooks"] == [{"name": "ops", "events": ["payment.failed"], "waiting": 0, "dead": 1}]
        assert [one["id"] for one in shown["dead"]] == ["msg_1"]
        post = "/api/webhooks/retry"
        assert (await http.post(post, json={"webhook": "none"})).status_code == 404
        assert (await http.post(post, content=b"{}")).status_code == 415
        assert (await http.post(post, json={"more": 1})).status_code == 400
        assert (await http.post(post, json={"ids": ["msg_2"]})).json()["count"] == 0
        assert (await http.post(post, json={"ids": ["msg_1"]})).json()["count"] == 1
        while (await stage.store.notices.count("ops")) != (1, 0):
            await asyncio.sleep(0.002)

    Hooked().play_operations(script)  # type: ignore[arg-type]


def test_events_of_a_removed_webhook_stay_until_a_person_drops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)

    async def script(stage: Hooked, http: httpx.AsyncClient) -> None:
        await stage.guardian.adopt(stage.policy)
        facts: dict[str, Any] = {"subject": "k", "kind": Kind.FAILED, "at": 1.0, "body": "{}"}
        made = [Notice(id=f"msg_{n}", hook="old", **facts) for n in range(120)]
        await stage.store.notices.keep([*made, Notice(id="msg_d", hook="old", dead=True, **facts)])
        await stage.store.notices.keep([Notice(id="msg_1", hook="ops", dead=True, **facts)])
        shown = (await http.get("/api/webhooks")).json()
        assert shown["removed"] == [{"name": "old", "waiting": 120, "dead": 1}]
        post = "/api/webhooks/forget"
        refused = await http.post(post, json={"webhook": "ops"})
        assert (refused.status_code, await stage.store.notices.count("ops")) == (409, (0, 1))
        assert "take it out first" in refused.json()["error"]
        assert (await http.post(post, json={})).status_code == 400
        assert (await http.post(post, json={"webhook": "old"})).json() == {"dropped": 121}
        assert (await http.get("/api/webhooks")).json()["removed"] == []
        assert (await http.post(post, json={"webhook": "odl"})).status_code == 404

    Hooked().play_operations(script)  # type: ignore[arg-type]


def test_events_are_dropped_by_name(
    ops: tuple[str, type[Answers]], capsys: pytest.CaptureFixture[str]
) -> None:
    ops[1].replies["/api/webhooks/forget"] = (200, {"dropped": 7})
    assert main(["webhooks", "forget", "old", "--ops", ops[0]]) == 0
    assert (ops[1].told, capsys.readouterr().out) == ([{"webhook": "old"}], "7 events dropped\n")
    ops[1].replies["/api/webhooks/forget"] = (409, {"error": "old is in the policy"})
    assert main(["webhooks", "forget", "old", "--ops", ops[0]]) == 2
    assert "is in the policy" in capsys.readouterr().err
    ops[1].replies["/api/webhooks/forget"] = (404, {"error": "no events of a webhook odl"})
    assert main(["webhooks", "forget", "odl", "--ops", ops[0]]) == 2
    assert "`guardian webhooks list`" in capsys.readouterr().err


def headers_of(body: bytes, secret: str = SECRET) -> dict[str, str]:
    made = signed_headers("msg_1", int(time.time()), body, read_keys(secret))
    return {name.decode(): value.decode() for name, value in made}


def test_the_signature_is_what_the_standard_says() -> None:
    at, body = 1_614_265_330, b'{"test": 2432232314}'  # from the specification's own example
    _, _, (_, signature) = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body, read_keys(SECRET))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    made = hmac.new(key, b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body, hashlib.sha256).digest()
    assert signature == b"v1," + base64.b64encode(made) == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_python_of_the_page_verifies() -> None:
    room: dict[str, Any] = {}
    exec(code("python"), room)
    body = b'{"a":"\xc3\xa4"}'
    headers = headers_of(body, f"whsec_{'B' * 32} {SECRET}")
    assert room["is_genuine"](headers, body, SECRET)
    assert not room["is_genuine"](headers, body + b" ", SECRET)
    assert not room["is_genuine"](headers | {"webhook-timestamp": "1"}, body, SECRET)
    assert not room["is_genuine"](headers, body, "whsec_" + "C" * 32)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_typescript_of_the_page_verifies(tmp_path: Path) -> None:
    plain = re.sub(r": (?:Record<string, string>|Buffer|string|boolean)(?=[,)\s])", "", code("typescript"))
    body = '{"a":"ä"}'
    facts = json.dumps([headers_of(body.encode(), f"whsec_{'B' * 32} {SECRET}"), body, SECRET])
    asks = """
    const [headers, body, secret] = %s;
    const ask = (h, b, s) => isGenuine(h, Buffer.from(b), s);
    console.log(JSON.stringify([ask(headers, body, secret), ask(headers, body + " ", secret),
      ask({...headers, "webhook-timestamp": "1"}, body, secret), ask(headers, body, "whsec_AAAA")]));
    """
    script = tmp_path / "check.mjs"
    script.write_text(plain + asks % facts)
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("[true,false,false,false]\n", "")


def test_the_page_names_every_event_and_shows_what_is_sent() -> None:
    assert [kind for kind in Kind if f"`{kind}`" not in PAGE] == []
    place = {"env": "HOOK_SECRET"}
    chosen = {"name": "ops", "url": "http://a", "events": tuple(Kind), "secret": place}
    outbox = Outbox(lambda: 1.0, lambda hook: None)
    outbox.use([WebhookPolicy.model_validate(chosen)])
    was = settlement(money=Money.CONFIRMED, answer=Answer.HELD)
    now = settlement(money=Money.CONFIRMED, answer=Answer.ABANDONED, version=1)
    (made,) = outbox.of_move(was, now)
    (circuit,) = outbox.of_circuit(CircuitKey("main", "eip155:8453", "settle"), "open")
    for example, sent in zip(EXAMPLES, (json.loads(made.body), json.loads(circuit.body)), strict=True):
        assert example["type"] == sent["type"]
        assert list(example) == list(sent)
        assert list(example["data"]) == list(sent["data"])
    assert outbox.of_move(was, now)[0].id == made.id
