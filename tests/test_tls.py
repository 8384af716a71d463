"""Certificates are verified on every way out; a server that cannot prove its name is told nothing."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricsData

from guardian.chain.wires import Call, wire_for
from guardian.errors import ChainUnavailable, NotSent
from guardian.facilitator.client import Facilitator

ROOT = Path(__file__).parents[1]
LIMIT_S = 10.0


def _identity(at: Path) -> ssl.SSLContext:
    """A server whose certificate nobody has signed but itself, made out to the right address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (at / "identity.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at / "identity.pem")
    return context


def play(at: Path, script: Callable[[str], Awaitable[None]]) -> list[bytes]:
    """Run a script against such a server, with its `host:port`; what the server was told."""
    told: list[bytes] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.read(65536))
        writer.close()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # the server's side of a refused handshake
        server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=_identity(at))
        async with server, asyncio.timeout(LIMIT_S):
            await script(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(run())
    return told


@pytest.mark.parametrize("way", ["post", "get", "stream"])
def test_a_facilitator_without_a_good_certificate_is_told_nothing(tmp_path: Path, way: str) -> None:
    async def script(place: str) -> None:
        facilitator = Facilitator("main", f"https://{place}")
        asked: dict[str, Any] = {
            "post": lambda: facilitator.post("/settle", [(b"x-api-key", b"k")], b"{}", timeout_s=5),
            "get": lambda: facilitator.get("/supported", [], timeout_s=5),
            "stream": lambda: facilitator.stream("GET", "/discovery", b"", [], None, timeout_s=5),
        }
        with pytest.raises(NotSent):
            await asked[way]()
        await facilitator.close()

    assert play(tmp_path, script) == []


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_a_node_without_a_good_certificate_is_told_nothing(tmp_path: Path, scheme: str) -> None:
    async def script(place: str) -> None:
        wire = wire_for(f"{scheme}://{place}/", timeout_s=5, on_head=lambda: None)
        with pytest.raises(ChainUnavailable):
            await wire([Call("eth_chainId", [])])
        await wire.close()

    assert play(tmp_path, script) == []


@pytest.mark.parametrize(
    ("exporter", "data"), [(OTLPMetricExporter, MetricsData(resource_metrics=[])), (OTLPSpanExporter, ())]
)
def test_a_collector_without_a_good_certificate_is_told_nothing(
    tmp_path: Path, exporter: Any, data: Any
) -> None:
    async def script(place: str) -> None:
        made = exporter(endpoint=f"https://{place}/v1", timeout=1)
        sent = await asyncio.to_thread(made.export, data)
        assert sent.name == "FAILURE"
        made.shutdown()

    assert play(tmp_path, script) == []


def test_nothing_in_the_guardian_can_turn_verification_off() -> None:
    loosened = ("verify=False", "CERT_NONE", "check_hostname = False", "check_hostname=False", "ssl=False")
    loosened += (
        "danger_accept_invalid",
        "_create_unverified_context",
        "insecure=True",
        'ssl_cert_reqs="none"',
    )
    for path in (ROOT / "guardian").rglob("*.py"):
        text = path.read_text()
        assert [word for word in loosened if word in text] == [], path
