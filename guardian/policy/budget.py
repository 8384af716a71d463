"""What the rules of `spending:` say of one payment: refused, or counted, or waiting for an approval. Pure.

Amounts of different assets never meet: a budget is of one rule, one spender, one asset on one network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from guardian.policy.rules import network_matches
from guardian.policy.spending import About, SpendingPolicy, SpendingRule
from guardian.policy.units import Amount, write_amount

HOUR, DAY = "hour", "day"

_FACTS: Final = ("caller", "payer", "payee", "route", "host", "network", "asset")
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Spend:
    """A payment as the rules see it. "" and () where it does not show the fact, but for the caller, where
    "" is one without a name. payee: of what was signed and of what is said, which may differ; amount: the
    larger of the two in atomic units, None where what was signed cannot be read; decimals: of a dollar
    token, None for any other."""

    route: str
    host: str
    caller: str = ""
    network: str = ""
    asset: str = ""
    payer: str = ""
    payee: tuple[str, ...] = ()
    amount: int | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a payment is refused. limit: the key of the rule that refuses it."""

    rule: str
    limit: str
    why: str


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget that a payment is counted against. whose: caller or payer, "" for all; span: HOUR or DAY;
    network and asset: "" where payments are counted, not amounts."""

    rule: str
    key: str
    whose: str
    network: str
    asset: str
    span: str
    amount: int
    most: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What must hold for a payment: all budgets have room, and somebody has approved of it, where rules
    want that."""

    limits: tuple[Limit, ...] = ()
    approval: str = ""


def judge(spending: SpendingPolicy, spend: Spend) -> Denial | Demand:
    """What the rules say: the first that refuses it, or all that it has to pass yet."""
    limits: list[Limit] = []
    approval = ""
    for rule in spending.rules:
        if not _is_about(rule.for_, spend):
            continue
        if denial := _refused(rule, spend):
            return denial
        if rule.approve_above is not None and _exceeds(spend, rule.approve_above):
            approval = approval or rule.name
        limits += _limits(rule, spend)
    return Demand(tuple(limits), approval)


def concerns(spending: SpendingPolicy, route: str, host: str, caller: str) -> bool:
    """Whether any rule may be about this caller's payments on this route, whatever they say of themselves."""
    asked = Spend(route, host, caller)
    return any(_is_about(rule.for_, asked) for rule in spending.rules)


def floor_of(amount: Amount, decimals: int | None) -> int | None:
    """A limit in atomic units, rounded down; None where it says nothing of such a token."""
    if amount.dollars is None:
        return amount.atomic
    return None if decimals is None else int(Fraction(amount.dollars) * 10**decimals)


def _facts(spend: Spend, fact: str) -> tuple[str, ...]:
    """What is known of it; a caller without a name is one that nothing names."""
    if fact == "caller":
        return (spend.caller.partition(":")[2],)
    value = getattr(spend, fact)
    return value if isinstance(value, tuple) else (value,) if value else ()


def _matches(fact: str, wanted: Sequence[str], value: str) -> bool:
    if fact == "network":
        return any(network_matches(value, one) for one in wanted)
    return value in wanted


def _is_about(about: About, spend: Spend) -> bool:
    for fact in _FACTS:
        wanted, known = getattr(about, fact), _facts(spend, fact)
        if wanted and known and not any(_matches(fact, wanted, value) for value in known):
            return False
    return True


def _refused(rule: SpendingRule, spend: Spend) -> Denial | None:
    for fact in _FACTS:
        known = _facts(spend, fact)
        said = ", ".join(known)[:_SHOWN] or ("no name" if fact == "caller" else "not shown")
        only, never = getattr(rule.only, fact), getattr(rule.never, fact)
        if only and not (known and all(_matches(fact, only, value) for value in known)):
            return Denial(rule.name, f"only.{fact}", f"the {fact} is none of those allowed: {said}")
        if never and (not known or any(_matches(fact, never, value) for value in known)):
            return Denial(rule.name, f"never.{fact}", f"the {fact} is one that is refused: {said}")
    return _uncountable(rule, spend) or _too_much(rule, spend)


def _uncountable(rule: SpendingRule, spend: Spend) -> Denial | None:
    """What cannot be counted may be more than the limit."""
    for key, amount in _amounts(rule):
        if spend.amount is None:
            return Denial(rule.name, key, "the amount that was signed cannot be read from this payment")
        if not spend.asset:
            return Denial(rule.name, key, "the payment does not show its asset, so it cannot be counted")
        if floor_of(amount, spend.decimals) is None:
            why = f"{spend.asset} on {spend.network} is no dollar token of the token table"
            return Denial(rule.name, key, f"{why}, so dollars say nothing of it")
    return None


def _too_much(rule: SpendingRule, spend: Spend) -> Denial | None:
    """More than any one payment may be, or more than there is in an empty budget."""
    for key in ("per_payment", "per_hour", "per_day"):
        most = getattr(rule, key)
        if most is not None and _exceeds(spend, most):
            return Denial(rule.name, key, f"{spend.amount} atomic is more than {write_amount(most)}")
    return None


def _amounts(rule: SpendingRule) -> Iterator[tuple[str, Amount]]:
    for key in ("per_payment", "per_hour", "per_day", "approve_above"):
        if (amount := getattr(rule, key)) is not None:
            yield key, amount


def _exceeds(spend: Spend, most: Amount) -> bool:
    limit = floor_of(most, spend.decimals)
    return limit is None or spend.amount is None or spend.amount > limit


def _limits(rule: SpendingRule, spend: Spend) -> Iterator[Limit]:
    whose = {"all": "", "caller": spend.caller, "payer": spend.payer}[rule.per]
    for key, span in (("per_hour", HOUR), ("per_day", DAY)):
        amount = getattr(rule, key)
        if amount is not None and (most := floor_of(amount, spend.decimals)) is not None:
            assert spend.amount is not None  # _uncountable
            yield Limit(rule.name, key, whose, spend.network, spend.asset, span, spend.amount, most)
    for key, span in (("payments_per_hour", HOUR), ("payments_per_day", DAY)):
        if (most := getattr(rule, key)) is not None:
            yield Limit(rule.name, key, whose, "", "", span, 1, most)
