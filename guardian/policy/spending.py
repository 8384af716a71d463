"""What agents may spend: `spending:`. Models only, no I/O; what a rule says of a payment is in budget.py."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from guardian.policy.section import Section, yaml_key
from guardian.policy.tree import Path
from guardian.policy.types import (
    ASSET,
    HOST,
    AmountValue,
    Count,
    Duration,
    Flag,
    Misplaced,
    Name,
    NetworkName,
    OneOrMore,
    Written,
    account_id,
    host_name,
    nearest,
)
from guardian.policy.units import show

if TYPE_CHECKING:
    from guardian.policy.model import Policy

MAX_RULES: Final = 256
_CALLER_CHARS: Final = 200


def _caller(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _CALLER_CHARS or not value.isprintable():
        raise ValueError(f"{show(value)} is no caller's name; write that of a key, or of a certificate")
    return value


CallerName = Annotated[
    str,
    BeforeValidator(_caller),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _CALLER_CHARS, "pattern": r"^[^\r\n]*$"}),
]
Account = Annotated[
    str, BeforeValidator(account_id), WithJsonSchema({"type": "string", "pattern": f"^{ASSET.pattern}$"})
]
HostName = Annotated[
    str, BeforeValidator(host_name), WithJsonSchema({"type": "string", "pattern": f"^({HOST.pattern})$"})
]

_LIMITS: Final = ("per_payment", "per_hour", "per_day", "approve_above")
_COUNTS: Final = ("payments_per_hour", "payments_per_day")


class About(Section):
    """Facts of a payment: every key given must hold, and of a list any one entry. A fact that a payment does
    not show (a v1 payment need not name its asset) may be any: `for` takes it for one that is meant, `only`
    and `never` refuse it."""

    caller: OneOrMore[CallerName] = Field(
        default=(), description="Who sends it: the name of a key of `callers`, or of a client certificate."
    )
    payer: OneOrMore[Account] = Field(default=(), description="The account that pays.")
    payee: OneOrMore[Account] = Field(default=(), description="The account that is paid.")
    route: OneOrMore[Name] = Field(default=(), description="The route, by its name here.")
    host: OneOrMore[HostName] = Field(default=(), description="The upstream's host, without a port.")
    network: OneOrMore[NetworkName] = Field(
        default=(), description="CAIP-2 id or v1 name, or a family of them: `eip155:*`."
    )
    asset: OneOrMore[Account] = Field(default=(), description="The token, by its address.")


class SpendingRule(Section):
    """One limit on what agents spend. All rules hold at once; the first that refuses a payment is named."""

    name: Name = Field(description="Its name in refusals, metrics and budgets: another name, another budget.")
    for_: About = Field(default=About(), description="Which payments it is about. Default: all.")
    only: About = Field(default=About(), description="What they must be; whatever is else is refused.")
    never: About = Field(default=About(), description="What they must not be: any one fact refuses.")
    per: Literal["all", "caller", "payer"] = Field(
        default="all",
        description="Whose budget it is: one for all of them, or one for each caller or payer.",
    )
    per_payment: Annotated[AmountValue | None, Written] = Field(
        default=None, description="The most that one payment may be. Default: no limit."
    )
    per_hour: Annotated[AmountValue | None, Written] = Field(
        default=None,
        description="The most in one hour, counted from its beginning in UTC. Default: no limit.",
    )
    per_day: Annotated[AmountValue | None, Written] = Field(
        default=None, description="The most in one day, counted from midnight UTC. Default: no limit."
    )
    payments_per_hour: Annotated[Count | None, Written] = Field(
        default=None, description="Payments in one hour, of all assets together. Default: no limit."
    )
    payments_per_day: Annotated[Count | None, Written] = Field(
        default=None, description="Payments in one day, of all assets together. Default: no limit."
    )
    approve_above: Annotated[AmountValue | None, Written] = Field(
        default=None, description="A payment of more waits for a person's approval. Default: none does."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        said = [key for key in (*_LIMITS, *_COUNTS) if getattr(self, key) is not None]
        if not said and not self.only.model_fields_set and not self.never.model_fields_set:
            raise ValueError("it refuses nothing; give it a limit, or `only` or `never`")
        for key in _LIMITS:
            amount = getattr(self, key)
            if amount is not None and amount.atomic is not None and len(self.for_.asset) != 1:
                raise ValueError(
                    f"{key} is in atomic units, which mean something else for each token; name one in"
                    " `for: {asset: …}`, or write dollars like $0.10"
                )
        return self


class SpendingPolicy(Section):
    """What agents may spend on the routes. Amounts are counted for each asset on each network by itself."""

    stop: Flag = Field(default=False, description="`true` refuses every new payment on the routes.")
    approvals_last_s: Duration = Field(
        default=3600.0, description="How long after an approval its payment may come, once."
    )
    rules: tuple[SpendingRule, ...] = Field(
        default=(), max_length=MAX_RULES, description="The limits. All of them hold."
    )


def refuse_senseless(policy: "Policy") -> None:
    """Raise Misplaced for what of `spending` does not agree with the rest of the policy."""
    spending = policy.spending
    if spending.model_fields_set and not policy.routes:
        raise Misplaced(
            ("spending",),
            "there are no routes, and only payments on routes count; add some, or drop it",
        )
    names: set[str] = set()
    for index, rule in enumerate(spending.rules):
        at: Path = ("spending", "rules", index)
        if rule.name in names:
            raise Misplaced((*at, "name"), f"{show(rule.name)} stands twice; budgets go by the name")
        names.add(rule.name)
        _refuse_unknown(policy, rule, at)


def _refuse_unknown(policy: "Policy", rule: SpendingRule, at: Path) -> None:
    named = bool(policy.callers.keys or policy.callers.mtls_name_header)
    if rule.per == "caller" and not named:
        raise Misplaced((*at, "per"), "no caller has a name; name keys under `callers`, or count per payer")
    routes = [route.name for route in policy.routes]
    keys = [key.name for key in policy.callers.keys]
    for path, route in _named(rule, at, "route"):
        if route not in routes:
            raise Misplaced(path, f"there is no route {show(route)}; {nearest(route, routes)}")
    for path, caller in _named(rule, at, "caller"):
        if caller not in keys and policy.callers.mtls_name_header is None:
            raise Misplaced(path, f"there is no key {show(caller)} under `callers`; {nearest(caller, keys)}")


def _named(rule: SpendingRule, at: Path, fact: str) -> Iterator[tuple[Path, str]]:
    for attribute in ("for_", "only", "never"):
        for place, value in enumerate(getattr(getattr(rule, attribute), fact)):
            yield (*at, yaml_key(attribute), fact, place), value
