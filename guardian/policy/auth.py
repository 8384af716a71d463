"""How the guardian shows a facilitator who it is: `auth:` of a facilitator. Models only, no secrets, no I/O.

A secret never stands in the policy, which is read, diffed and shown: the policy names an environment
variable or a file. guardian/facilitator/auth.py reads it and writes the header.
"""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from guardian.policy.section import Section
from guardian.policy.types import EnvName, HeaderName, SecretFile, Written


def _where(value: object) -> object:
    """Never echoed: somebody may have put the secret itself here."""
    if isinstance(value, dict | Section):
        return value
    raise ValueError("a secret never stands in this file; write {env: NAME} or {file: /path}")


class SecretPlace(Section):
    """Where a secret stands: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Annotated[EnvName | None, Written] = Field(
        default=None, description="An environment variable of the guardian; read when the policy is loaded."
    )
    file: Annotated[SecretFile | None, Written] = Field(
        default=None, description="A mounted file; read again when it changes, so that a secret can rotate."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("name one place of the secret: {env: NAME} or {file: /path}")
        return self

    def __str__(self) -> str:
        return f"the environment variable {self.env}" if self.env else f"the file {self.file}"


Place = Annotated[SecretPlace, BeforeValidator(_where)]


class HeaderAuth(Section):
    """A header of the facilitator's own."""

    name: HeaderName = Field(description="The header's name, like x-api-key.")
    value: Place = Field(description="Where its value stands.")


class CdpAuth(Section):
    """Coinbase Developer Platform: a token of two minutes, signed anew for every method and path."""

    key_id: Place = Field(description="Where the id of the secret API key stands.")
    key_secret: Place = Field(
        description="Where the key stands: PEM of an EC key (ES256), or base64 of 64 bytes (Ed25519)."
    )


class AuthPolicy(Section):
    """One way of showing who is calling, and when it is used."""

    bearer: Annotated[Place | None, Written] = Field(
        default=None, description="Sends `Authorization: Bearer …`."
    )
    header: Annotated[HeaderAuth | None, Written] = Field(
        default=None, description="Sends a header of another name."
    )
    cdp: Annotated[CdpAuth | None, Written] = Field(
        default=None, description="Signs tokens as Coinbase's facilitator wants them."
    )
    when: Literal["missing", "always"] = Field(
        default="missing",
        description="missing: a caller's own header passes, as long as it is good for this request; always: "
        "the guardian's replaces it.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.bearer, self.header, self.cdp)) != 1:
            raise ValueError("choose one of bearer, header and cdp")
        return self
