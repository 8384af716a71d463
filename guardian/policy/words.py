"""Values of a policy as its file writes them: what explain, diff and the reference print. No secrets."""

from enum import Enum

from guardian.policy.auth import AuthPolicy, SecretPlace
from guardian.policy.checks import CheckPolicy
from guardian.policy.network import TokenPolicy
from guardian.policy.rules import Mode
from guardian.policy.section import Section, yaml_key
from guardian.policy.units import Amount, Pace, Times, write_amount, write_duration, write_pace, write_times
from guardian.policy.urls import redact_url

_LEFT_OUT = {
    "order": "place in the list",
    "max_settles": "no limit",
    "pace": "no limit",
    "max_open": "no limit",
    "max_open_all": "no limit",
    "longest_description": "no limit",
    **dict.fromkeys(("per_payment", "per_hour", "per_day"), "no limit"),
    **dict.fromkeys(("payments_per_hour", "payments_per_day"), "no limit"),
    "failover_to": "all",
    "only": "all",
    **dict.fromkeys(("retry", "failover", "circuit", "watch", "answer", "alert"), "as the class has it"),
}
"""What it means that a key without a default is left out; else there is none."""


def words(attribute: str, value: object) -> str:
    """A value as the file would write it, on one line; `attribute` tells durations from numbers."""
    match value:
        case None:
            return _LEFT_OUT.get(attribute, "none")
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case Amount():
            return write_amount(value)
        case Pace():
            return write_pace(value)
        case Times():
            return write_times(value)
        case CheckPolicy():
            return str(value.do) if value.mode is Mode.ENFORCE else f"{value.do} (shadow)"
        case SecretPlace():
            return f"{{env: {value.env}}}" if value.env else f"{{file: {value.file}}}"
        case TokenPolicy():
            return _token(value)
        case int() | float() if attribute.endswith("_s"):
            return write_duration(value)
        case float():
            return f"{value:g}"
        case tuple() | list() if attribute == "rpc":
            return ", ".join(redact_url(str(url)) for url in value) or "none: payments are not watched"
        case tuple() | list():
            items = ", ".join(words(attribute, one) for one in value)
            return f"[{items}]" if len(value) > 1 else items or "none"
        case Section():
            return _section(value)
    return str(value)


def _section(section: Section) -> str:
    """Only what was written: the rest is the default of its kind."""
    written = [key for key in type(section).model_fields if key in section.model_fields_set]
    if isinstance(section, AuthPolicy):
        written = [key for key in written if getattr(section, key) is not None]
    inside = (f"{yaml_key(key)}: {words(key, getattr(section, key))}" for key in written)
    return "{" + ", ".join(inside) + "}"


def _token(token: TokenPolicy) -> str:
    domain = f"{token.name!r} version {token.version!r}" if token.name is not None else "domain unknown"
    decimals = "decimals unknown" if token.decimals is None else f"{token.decimals} decimals"
    return f"{token.symbol or 'token'}, {domain}, {decimals}" + (", dollar" if token.dollar else "")
