"""Who may call the data port, and how much of it one caller may use: `callers:`. Models only, no I/O.

Keys never stand in the policy: it names an environment variable or a file. guardian/edge/callers.py reads
them, knows callers by them, and counts.
"""

import ipaddress
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from guardian.policy.auth import Place
from guardian.policy.section import Section
from guardian.policy.types import Count, HeaderName, Name, PaceValue, Written
from guardian.policy.units import show

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_TAKEN: Final = frozenset(
    [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "payment-signature",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-payment",
    ]
)
"""Headers that mean something else, to HTTP or to facilitators, and so cannot be taken out."""


def _own_header(value: str) -> str:
    if value in _TAKEN:
        raise ValueError(
            f"{show(value)} has another meaning; choose a header of your own, like x-guardian-key"
        )
    return value


def _proxy(value: object) -> str:
    try:
        return str(ipaddress.ip_network(value if isinstance(value, str) else ""))
    except ValueError:
        cure = "write one like 10.0.0.7, or a network like 10.0.0.0/8"
        raise ValueError(f"{show(value)} is not an IP address; {cure}") from None


Proxy = Annotated[str, BeforeValidator(_proxy), WithJsonSchema({"type": "string"})]


class CallerKey(Section):
    """One key that callers may show. A name may stand twice: while a key is replaced, both are good."""

    name: Name = Field(description="The caller's name in the log; its limits are counted by it.")
    key: Place = Field(description="Where the key stands: 16 characters or more that a header may have.")


class CallersPolicy(Section):
    """Who may call the data port, and how much of it one caller may use. The operations port is not meant."""

    require: Literal["off", "key", "certificate", "either"] = Field(
        default="off",
        description="What a caller must show: one of `keys`, a client certificate that a proxy in front has "
        "checked, or either. `off` lets everybody in and only counts.",
    )
    keys: tuple[CallerKey, ...] = Field(default=(), max_length=256, description="The keys that are known.")
    header: HeaderName = Field(
        default="x-guardian-key",
        description="The header that a key is shown in; it is never sent on.",
    )
    mtls_name_header: Annotated[HeaderName | None, Written] = Field(
        default=None,
        description="The header in which a proxy of `trusted_proxies` names the holder of the client "
        "certificate; from anybody else it counts for nothing, and it is never sent on.",
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        default=(),
        max_length=64,
        description="Addresses or networks of proxies in front. What they say in `mtls_name_header` and "
        "`x-forwarded-for` is believed.",
    )
    pace: Annotated[PaceValue | None, Written] = Field(
        default=None,
        description="Requests of one caller: that many at once, then at that pace. A caller is a key's or a "
        "certificate's name, else an address. Default: no limit.",
    )
    max_open: Annotated[Count | None, Written] = Field(
        default=None, description="Requests of one caller that are open at once. Default: no limit."
    )
    max_open_all: Annotated[Count | None, Written] = Field(
        default=None, description="Requests of all callers that are open at once. Default: no limit."
    )

    @cached_property
    def active(self) -> bool:
        """Whether anything is asked of callers at all."""
        return bool(self.model_fields_set)

    @cached_property
    def proxies(self) -> tuple[IpNetwork, ...]:
        """`trusted_proxies` as networks."""
        return tuple(ipaddress.ip_network(one) for one in self.trusted_proxies)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for header in (self.header, self.mtls_name_header):
            if header is not None:
                _own_header(header)
        if self.header == self.mtls_name_header:
            raise ValueError("header and mtls_name_header are one; a caller could name itself: choose two")
        if self.require == "key" and not self.keys:
            raise ValueError("require: key, and there are no keys; add one, or nobody could call")
        if self.require == "either" and not (self.keys or self.mtls_name_header):
            raise ValueError("require: either, and there is neither; add keys or mtls_name_header")
        if self.require == "certificate" and self.mtls_name_header is None:
            raise ValueError(
                "require: certificate needs mtls_name_header, in which the proxy names its holder"
            )
        if self.mtls_name_header is not None and not self.trusted_proxies:
            raise ValueError("mtls_name_header needs trusted_proxies: anybody else could write that header")
        return self
