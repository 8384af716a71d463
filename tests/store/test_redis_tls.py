"""TLS to Redis: the certificate and its name are always verified."""

import asyncio
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guardian.errors import StoreUnavailable
from guardian.store.open import open_store
from tests.store.lossy_proxy import Fate, LossyProxy


def certificate(directory, address):
    """A self-signed certificate for one address: paths of the certificate and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{address}.pem", directory / f"{address}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(*pem, plain))
    return paths


@pytest.mark.parametrize(
    ("address", "names_ca", "said"),
    [
        ("127.0.0.1", True, ""),
        ("127.0.0.1", False, "self-signed|self signed"),
        ("10.0.0.1", True, "IP address mismatch"),
    ],
)
def test_only_a_server_with_the_right_certificate_is_spoken_to(
    redis_server, tmp_path, new, address, names_ca, said
):
    cert, key = certificate(tmp_path, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def main():
        async with LossyProxy(redis_server.port, lambda request: Fate.PASS, context) as proxy:
            ca = f"&ca_file={cert}" if names_ca else ""
            store = open_store(f"rediss://127.0.0.1:{proxy.port}/0?prefix=tls&timeout=1s{ca}")
            if said:
                with pytest.raises(StoreUnavailable, match=said):
                    await store.open()
                return
            await store.open()
            assert (await store.claim(new())).created
            await store.close()

    asyncio.run(main())


def test_missing_certificate_file_is_said_at_the_start(tmp_path):
    store = open_store(f"rediss://127.0.0.1:1/0?ca_file={tmp_path}/none.pem")
    with pytest.raises(StoreUnavailable, match="certificates for TLS cannot be read"):
        asyncio.run(store.open())
