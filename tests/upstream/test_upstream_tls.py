"""An upstream by https: sent to only where it proves its name."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guardian.errors import NotSent
from guardian.upstream import client
from guardian.upstream.client import Upstream
from guardian.upstream.place import Place

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A server for 127.0.0.1 whose certificate this machine trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(pem + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    client._tls.cache_clear()
    yield context
    client._tls.cache_clear()


def play(identity: ssl.SSLContext, host: str) -> bytes:
    """What a server at 127.0.0.1 says when it is asked as `host`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REPLY)
        await reader.read()
        writer.close()

    async def run() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity) as server:
            upstream = Upstream(Place.of(f"https://{host}:{server.sockets[0].getsockname()[1]}"))
            try:
                exchange = await upstream.begin(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                body = await (await exchange.reply()).read(5)
                exchange.close()
            finally:
                await upstream.aclose()
            assert body is not None
            return body

    return asyncio.run(run())


def test_a_server_that_proves_its_name_is_asked(identity: ssl.SSLContext) -> None:
    assert play(identity, "127.0.0.1") == b"ok"


def test_a_server_with_another_name_is_sent_nothing(identity: ssl.SSLContext) -> None:
    with pytest.raises(NotSent):
        play(identity, "localhost")
