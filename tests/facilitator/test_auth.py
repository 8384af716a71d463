"""A facilitator is told who is calling; a caller's own word passes; no secret shows anywhere."""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from guardian.errors import PolicyError
from guardian.facilitator.auth import Credentials, credentials
from guardian.policy.auth import AuthPolicy

SETTLE = "https://api.cdp.coinbase.com/platform/v2/x402/settle"
VERIFY = "https://api.cdp.coinbase.com/platform/v2/x402/verify"
NOW = 1_800_000_000
KEY_ID = "organizations/1/apiKeys/2"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PEM = EC_KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.NoEncryption(),
).decode()
RAW = ED_KEY.private_bytes(
    serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
)
PUBLIC = ED_KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
ED_SECRET = base64.b64encode(RAW + PUBLIC).decode()
CDP = {"cdp": {"key_id": {"env": "KEY_ID"}, "key_secret": {"env": "KEY"}}}
BEARER = {"bearer": {"env": "TOKEN"}}


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def made(policy: Mapping[str, Any], environ: Mapping[str, str], clock: Clock | None = None) -> Credentials:
    auth = AuthPolicy.model_validate(policy)
    return credentials(auth, environ, "facilitators[1].auth", clock=clock or Clock())


def cdp(secret: str = PEM, clock: Clock | None = None, **policy: Any) -> Credentials:
    return made(CDP | policy, {"KEY_ID": KEY_ID, "KEY": secret}, clock)


def authorization(own: Credentials, url: str = SETTLE, sent: object = (), **how: Any) -> str:
    headers = own.headers("POST", url, sent, **how)  # type: ignore[arg-type]
    found = [value for name, value in headers if name == b"authorization"]
    assert len(found) == 1
    return found[0].decode()


def token(own: Credentials, url: str = SETTLE, method: str = "POST") -> str:
    headers = own.headers(method, url, ())
    return dict(headers)[b"authorization"].decode().removeprefix("Bearer ")


def claims(token: str, key: Any, algorithm: str) -> dict[str, Any]:
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    found: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm], options=options)
    return found


@pytest.mark.parametrize(
    ("secret", "algorithm", "public"),
    [
        (PEM, "ES256", EC_KEY.public_key()),
        (PEM.replace("\n", "\\n"), "ES256", EC_KEY.public_key()),
        (ED_SECRET, "EdDSA", ED_KEY.public_key()),
    ],
    ids=["pem", "pem with escaped line ends", "ed25519"],
)
def test_a_token_is_signed_as_cdp_documents_it(secret: str, algorithm: str, public: Any) -> None:
    signed = token(cdp(secret))
    header = jwt.get_unverified_header(signed)
    assert (header["alg"], header["kid"], header["typ"]) == (algorithm, KEY_ID, "JWT")
    assert len(header["nonce"]) >= 16
    assert claims(signed, public, algorithm) == {
        "iss": "cdp",
        "sub": KEY_ID,
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 120,
        "uris": ["POST api.cdp.coinbase.com/platform/v2/x402/settle"],
    }


def test_a_token_is_good_for_one_method_and_path_only() -> None:
    own = cdp()
    signed = [token(own), token(own, VERIFY), token(own, SETTLE, "GET")]
    uris = [claims(one, EC_KEY.public_key(), "ES256")["uris"] for one in signed]
    assert uris == [
        ["POST api.cdp.coinbase.com/platform/v2/x402/settle"],
        ["POST api.cdp.coinbase.com/platform/v2/x402/verify"],
        ["GET api.cdp.coinbase.com/platform/v2/x402/settle"],
    ]


def test_a_token_is_used_again_until_a_minute_before_it_ends() -> None:
    clock = Clock()
    own = cdp(clock=clock)
    first = token(own)
    clock.now = NOW + 59.9
    assert token(own) == first
    clock.now = NOW + 60
    assert token(own) != first


def test_tokens_for_many_paths_do_not_pile_up() -> None:
    own = cdp(ED_SECRET)
    for number in range(200):
        token(own, f"https://h/{number}")
    assert len(own._way._tokens) <= 64  # type: ignore[attr-defined]


def test_a_bearer_token_is_sent_where_the_caller_sent_none() -> None:
    own = made(BEARER, {"TOKEN": "s3cret"})
    sent = [(b"content-type", b"application/json"), (b"x-request-id", b"7")]
    assert own.headers("POST", SETTLE, sent) == [*sent, (b"authorization", b"Bearer s3cret")]


def test_a_header_of_another_name_leaves_authorization_alone() -> None:
    own = made({"header": {"name": "X-Api-Key", "value": {"env": "KEY"}}}, {"KEY": "k"})
    sent = [(b"Authorization", b"Bearer theirs")]
    assert list(own.headers("POST", SETTLE, sent)) == [*sent, (b"x-api-key", b"k")]


def test_the_callers_own_header_passes() -> None:
    own = made(BEARER, {"TOKEN": "ours"})
    sent = [(b"Authorization", b"Bearer theirs"), (b"accept", b"*/*")]
    assert own.headers("POST", SETTLE, sent) == sent


def test_a_repeat_of_the_guardians_own_carries_its_own_header() -> None:
    own = made(BEARER, {"TOKEN": "ours"})
    assert authorization(own, sent=[(b"Authorization", b"Bearer theirs")], repeated=True) == "Bearer ours"


def test_always_replaces_the_callers_header() -> None:
    own = made(BEARER | {"when": "always"}, {"TOKEN": "ours"})
    sent = [(b"AUTHORIZATION", b"Bearer theirs"), (b"authorization", b"Bearer more")]
    assert authorization(own, sent=sent) == "Bearer ours"


def callers(**changed: Any) -> list[tuple[bytes, bytes]]:
    said = {"iss": "cdp", "exp": NOW + 120, "uris": ["POST api.cdp.coinbase.com/platform/v2/x402/settle"]}
    signed = jwt.encode(said | changed, ED_KEY, algorithm="EdDSA")
    return [(b"authorization", b"Bearer " + signed.encode())]


def test_a_callers_fresh_token_for_this_request_passes() -> None:
    sent = callers()
    assert cdp().headers("POST", SETTLE, sent) == sent


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW + 59},  # older than a minute
        {"exp": NOW - 5},
        {"uris": ["POST guardian.internal/platform/v2/x402/settle"]},  # signed for the guardian's host
        {"uris": []},
    ],
)
def test_a_callers_token_that_cdp_would_refuse_is_replaced(changed: dict[str, Any]) -> None:
    sent = authorization(cdp(), sent=callers(**changed)).removeprefix("Bearer ")
    assert claims(sent, EC_KEY.public_key(), "ES256")["sub"] == KEY_ID


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Basic dTpw", b"Bearer opaque", b"Bearer \xff", b"Bearer a.b.c"],
)
def test_what_is_no_token_to_be_judged_passes(value: bytes) -> None:
    sent = [(b"authorization", value)]
    assert cdp().headers("POST", SETTLE, sent) == sent


def test_a_hostile_token_does_no_harm() -> None:
    part = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=")
    deep = base64.urlsafe_b64encode(b"[" * 40_000).rstrip(b"=")
    sent = [(b"authorization", b"Bearer " + part + b"." + deep + b".")]
    assert cdp().headers("POST", SETTLE, sent) == sent


def test_a_rotated_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    own = made({"bearer": {"file": str(file)}}, {})
    assert authorization(own) == "Bearer first"
    file.write_text("the second\n")
    assert authorization(own) == "Bearer the second"


def test_a_swapped_link_is_seen(tmp_path: Path) -> None:
    """Kubernetes rotates a mounted secret so."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (NOW, NOW))
    link = tmp_path / "token"
    link.symlink_to(tmp_path / "one")
    own = made({"bearer": {"file": str(link)}}, {})
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").replace(link)
    assert authorization(own) == "Bearer two"


def test_a_rotated_key_signs_the_next_token(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(PEM)
    own = made({"cdp": {"key_id": {"env": "KEY_ID"}, "key_secret": {"file": str(file)}}}, {"KEY_ID": KEY_ID})
    assert claims(token(own), EC_KEY.public_key(), "ES256")
    file.write_text(ED_SECRET)
    assert claims(token(own), ED_KEY.public_key(), "EdDSA")


@pytest.mark.parametrize("broken", ["", "no key", None])
def test_a_rotation_that_went_wrong_leaves_the_last_good_secret(tmp_path: Path, broken: str | None) -> None:
    file = tmp_path / "key"
    file.write_text(ED_SECRET)
    own = made({"cdp": {"key_id": {"env": "KEY_ID"}, "key_secret": {"file": str(file)}}}, {"KEY_ID": KEY_ID})
    file.unlink() if broken is None else file.write_text(broken)
    assert claims(token(own), ED_KEY.public_key(), "EdDSA")
    file.write_text(PEM)
    assert claims(token(own), EC_KEY.public_key(), "ES256")


def refusal(policy: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    with pytest.raises(PolicyError) as caught:
        made(policy, environ)
    assert caught.value.__cause__ is None  # nothing that may quote the secret hangs on
    return str(caught.value)


def test_a_missing_variable_is_named_with_its_cure() -> None:
    said = refusal(BEARER, {})
    assert said.startswith(
        "facilitators[1].auth.bearer: the environment variable TOKEN is not set; set it for"
    )
    assert "KEY_ID is not set" in refusal(CDP, {"KEY": PEM})


def test_an_unreadable_file_is_named_with_its_cure(tmp_path: Path) -> None:
    said = refusal({"bearer": {"file": str(tmp_path / "none")}}, {})
    assert str(tmp_path / "none") in said
    assert "no such file" in said
    assert "mount it" in said
    assert "is a directory" in refusal({"bearer": {"file": str(tmp_path)}}, {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is not text" in refusal({"bearer": {"file": str(tmp_path / "binary")}}, {})


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_secret_is_refused(value: str) -> None:
    assert "TOKEN is empty" in refusal(BEARER, {"TOKEN": value})


@pytest.mark.parametrize("value", ["two\nlines", "caf\u00e9", "a\x00b", "a\r\nX-Evil: 1"])
def test_a_secret_that_no_header_may_carry_is_refused(value: str) -> None:
    said = refusal(BEARER, {"TOKEN": value})
    assert "characters that no header may have" in said
    assert value not in said


OTHER_CURVE = ec.generate_private_key(ec.SECP384R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2-is-no-key",
        base64.b64encode(RAW).decode(),
        PEM[:80],
        PEM.replace("A", "B"),
        OTHER_CURVE.decode(),
        "-----BEGIN EC PRIVATE KEY-----",
    ],
    ids=["word", "short", "cut off", "garbled", "other curve", "head alone"],
)
def test_what_is_no_key_of_cdps_is_refused_without_showing_it(secret: str) -> None:
    said = refusal(CDP, {"KEY_ID": KEY_ID, "KEY": secret})
    assert "KEY holds no key as CDP hands it out" in said
    assert not any(line in said for line in secret.splitlines() if len(line) > 8)


@pytest.mark.parametrize("policy", [BEARER, CDP], ids=["bearer", "cdp"])
def test_no_secret_shows_in_a_repr(policy: Mapping[str, Any]) -> None:
    own = made(policy, {"TOKEN": "s3cret", "KEY_ID": KEY_ID, "KEY": ED_SECRET})
    header = authorization(own)
    shown = f"{own!r} {own} {vars(own)!r} {vars(own._way)!r}"
    for secret in ("s3cret", ED_SECRET, header):
        assert secret not in shown


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({}, "choose one of bearer, header and cdp"),
        (BEARER | CDP, "choose one of bearer, header and cdp"),
        ({"bearer": {}}, "name one place of the secret"),
        ({"bearer": {"env": "A", "file": "/b"}}, "name one place of the secret"),
        ({"bearer": "s3cret"}, "a secret never stands in this file"),
        ({"bearer": {"env": "s3cret-with-dashes"}}, "not the name of an environment variable"),
        ({"bearer": {"file": "s3cret"}}, "not the path of a file"),
    ],
)
def test_a_policy_names_one_place_and_never_the_secret(policy: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        AuthPolicy.model_validate(policy)
    assert "s3cret" not in str(caught.value)
