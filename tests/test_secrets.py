"""No secret comes out: settles with secrets planted everywhere, and all that leaves the guardian is searched.

What a facilitator says to a caller passes as it is (law 7), so the answers are searched only for what is
the guardian's own.
"""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from guardian.app import Guardian, build
from guardian.cli import main
from guardian.logs import configure
from guardian.policy.load import parse_policy
from tests.edge.edge_stage import Stage, client
from tests.flow.scene import NETWORK, signed_payment

FACILITATOR = "fac1lit4torT0kenOfTheGuardian"
CALLER = "c4ller5OwnT0kenForTheFacilitator"
COOKIE = "s3ssionC00kieOfTheCaller"
SHOP = "shopK3yForTheGuardian0123456789"
RESOURCE = "k3yInTheUrlOfTheResource12345"
RPC_PATH = "Abc123rpcKeyInThePath4567890"
RPC_QUERY = "rpcK3yInTheQueryString0123"
HOOK = "whsec_aG9va1NlY3JldE9mVGhlR3VhcmRpYW4wMTIz"
GUARDIANS_OWN = (FACILITATOR, SHOP, RPC_PATH, RPC_QUERY, HOOK, HOOK.removeprefix("whsec_"))

POLICY = f"""\
version: 1
facilitators:
  - name: main
    url: http://facilitator
    auth: {{header: {{name: x-api-key, value: {{env: FAC_KEY}}}}}}
networks:
  "{NETWORK}":
    rpc: ["http://127.0.0.1:1/v2/{RPC_PATH}", "http://127.0.0.1:1/?apikey={RPC_QUERY}"]
    post_sign_delay: 0s
retry: {{attempts: 1}}
settle: {{hold: 10ms, hold_without_hash: 10ms}}
callers: {{require: key, keys: [{{name: shop, key: {{env: SHOP_KEY}}}}]}}
webhooks:
  - name: down
    url: http://127.0.0.1:9
    events: [payment.unresolved, payment.failed, payment.delivered, circuit.opened]
    secret: {{env: HOOK_KEY}}
"""


class Planted(Stage):
    """A guardian with secrets of its own."""

    def _build(self, urls: dict[str, str]) -> Guardian:
        transport = httpx.MockTransport(self._facilitator)
        return build(parse_policy(POLICY), self.store, transport=transport)


def _signature(body: bytes) -> str:
    return str(json.loads(body)["paymentPayload"]["payload"]["signature"])


def _echo(request: httpx.Request) -> str:
    """What a careless facilitator puts into its error text: all that it was sent."""
    headers = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"cannot settle {headers} {request.content.decode()}"


async def _echoed_as_reason(request: httpx.Request) -> httpx.Response:
    body = {"success": False, "errorReason": "unexpected", "errorMessage": _echo(request), "transaction": ""}
    return httpx.Response(200, json=body)


async def _echoed_as_page(request: httpx.Request) -> httpx.Response:
    return httpx.Response(502, text=f"<html>{_echo(request)}</html>")


async def _echoed_as_break(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError(_echo(request))


async def _echoed_as_refusal(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(_echo(request))


async def _echoed_as_crash(request: httpx.Request) -> httpx.Response:
    raise ValueError(_echo(request))


REPLIES = {
    "success": None,
    "a reason": _echoed_as_reason,
    "a page": _echoed_as_page,
    "a break": _echoed_as_break,
    "a refused connection": _echoed_as_refusal,
    "a crash": _echoed_as_crash,
}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setenv("FAC_KEY", FACILITATOR)
    monkeypatch.setenv("HOOK_KEY", HOOK)
    monkeypatch.setenv("SHOP_KEY", SHOP)
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure("debug", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_nothing_that_comes_out_of_a_settle_holds_a_secret(reply: Any, logged: io.StringIO) -> None:
    resource = f"https://shop/x?api_key={RESOURCE}"
    body, answers, seen = signed_payment(resource=resource), list[str](), list[str]()
    sent = {"x-guardian-key": SHOP, "authorization": f"Bearer {CALLER}", "cookie": f"session={COOKIE}"}
    spans = InMemorySpanExporter()

    async def script(stage: Stage, http: httpx.AsyncClient) -> None:
        if reply:
            stage.replies["settle"] = stage.replies["verify"] = reply
        for path in ("/verify", "/settle", "/settle"):
            answer = await http.post(path, content=body, headers=sent)
            answers.append(answer.text + str(answer.headers))
        for wrong in ({}, {"x-guardian-key": SHOP + "x"}):
            answers.append((await http.post("/settle", content=body, headers=wrong)).text)
        broken = body.replace(b'"value"', b'"walue"')
        answers.append((await http.post("/settle", content=broken, headers=sent)).text)
        (record,) = await stage.store.page()
        seen.append((await http.get(f"/payments/{record.id}", headers=sent)).text)
        async with client(stage.guardian.operations) as operators:
            kept = await stage.store.notices.waiting("down", 100)
            assert kept
            seen.extend(one.body + one.why for one in kept)
            seen.append(str(record.attempts))
            for path in (
                "/readyz",
                "/metrics",
                "/api/settlements",
                f"/api/settlements/{record.id}",
                "/api/policy",
                f"/api/orphans/{record.id}/evidence",
                "/api/webhooks",
            ):
                seen.append((await operators.get(path)).text)

    stage = Planted()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    stage.guardian.parts.telemetry.trace_with(provider)
    stage.play(script)
    seen += [logged.getvalue(), *(span.to_json() for span in spans.get_finished_spans())]
    assert len(spans.get_finished_spans()) > 0
    assert logged.getvalue()
    for secret in (*GUARDIANS_OWN, CALLER, COOKIE, RESOURCE, _signature(body), _signature(body)[2:]):
        assert [text for text in seen if secret in text] == [], secret
    assert stage.requests[0].headers["x-api-key"] == FACILITATOR
    own = [secret for secret in GUARDIANS_OWN if secret != FACILITATOR or not reply]
    for secret in own:
        assert [text for text in answers if secret in text] == [], secret


def test_a_policy_is_explained_and_compared_without_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], logged: io.StringIO
) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(POLICY)
    other.write_text(POLICY.replace("v2/", "v3/").replace("SHOP_KEY", "OTHER_KEY"))
    assert main(["policy", "explain", str(one)]) == 0
    assert main(["policy", "diff", str(one), str(other)]) == 1
    said = "".join(capsys.readouterr())
    assert [secret for secret in GUARDIANS_OWN if secret in said] == []


@pytest.mark.parametrize(
    "url", ["redis://:hunter2hunter2@nowhere.invalid:1/0", "rediss://u:hunter2hunter2@:x/0"]
)
def test_a_store_that_cannot_be_used_is_named_without_its_password(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nfacilitators: [{name: main, url: http://127.0.0.1:1}]\n")
    monkeypatch.setenv("GUARDIAN_STORE", url)
    monkeypatch.setenv("GUARDIAN_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GUARDIAN_OPS_LISTEN", "127.0.0.1:0")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        assert main(["serve", "--policy", str(policy)]) == 2
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    said = "".join(capsys.readouterr())
    assert said
    assert "hunter2" not in said


def test_no_flag_takes_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in argv can be read by every user of the machine."""
    main(["serve", "--help"])
    said = capsys.readouterr().out.lower()
    assert not [word for word in ("key", "token", "password", "secret") if f"--{word}" in said]
