"""What is in force and where it came from, and what deserves a warning. No secrets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from guardian.policy.callers import CallersPolicy
from guardian.policy.keys import SECTIONS, Layer
from guardian.policy.layers import SHIPPED_AT, Stack
from guardian.policy.model import FacilitatorPolicy, Policy, RoutePolicy
from guardian.policy.network import SHIPPED, SHIPPED_TOKENS, NetworkPolicy
from guardian.policy.places import Places
from guardian.policy.profile import Profile, profile_at, shipped_profiles
from guardian.policy.rules import ActRule, ClassifyRule, When, network_matches
from guardian.policy.section import yaml_key
from guardian.policy.tree import Path, Tree
from guardian.policy.units import write_duration
from guardian.policy.validate import write_path
from guardian.policy.webhooks import WebhookPolicy
from guardian.policy.words import words
from guardian.wire.networks import V1_NAMES

BUILT_IN = "built in"
_V1_NAMES = {id: name for name, id in V1_NAMES.items()}
_KNOWN = tuple(dict.fromkeys((*SHIPPED, *V1_NAMES.values(), *SHIPPED_TOKENS)))
_FACTS = tuple(key for key in NetworkPolicy.model_fields if key not in (*Layer.model_fields, "tokens"))
_OPERATIONS = ("verify", "settle", "supported")
_LAYER = tuple(key for key in Layer.model_fields if key not in SECTIONS)


@dataclass(frozen=True, slots=True)
class Line:
    """One value in force. origin: `file:line`, `shipped for <network>`, `profile <name>` or `built in`."""

    path: str
    value: str
    origin: str


def explain(policy: Policy, tree: Tree) -> list[Line]:
    """Every value of the policy and of each network, in the policy's order; `tree` is its text."""
    teller, places = _Teller(policy, tree), Places(tree)
    lines = [teller.own((), key, getattr(policy, key)) for key in ("version", "retention_s")]
    lines += teller.stack(("default",), policy.layers.stack("", "", ""), facts=False)
    for index, facilitator in enumerate(policy.facilitators):
        lines += teller.item(("facilitators", index), facilitator, layered=False)
    for index, route in enumerate(policy.routes):
        lines += teller.item(("routes", index), route, layered=False)
    for id in dict.fromkeys((*policy.networks, *SHIPPED)):
        lines += teller.network(places.written(("networks", id)), policy.layers.stack(id, "", ""))
    lines += [
        teller.own(("callers",), key, getattr(policy.callers, key)) for key in CallersPolicy.model_fields
    ]
    for index, webhook in enumerate(policy.webhooks):
        lines += [
            teller.own(("webhooks", index), key, getattr(webhook, key)) for key in WebhookPolicy.model_fields
        ]
    return [*lines, *teller.spending(Choice()), *teller.rules(Choice())]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom the values are asked for. network: CAIP-2; empty: not chosen."""

    network: str = ""
    facilitator: str = ""
    route: str = ""


def explain_for(policy: Policy, tree: Tree, choice: Choice) -> list[Line]:
    """Every value in force for one combination."""
    teller = _Teller(policy, tree)
    choice = replace(choice, facilitator=choice.facilitator or policy.layers.only)
    stack = policy.layers.stack(choice.network, choice.facilitator, choice.route)
    lines = [teller.with_limit(line, choice) for line in teller.stack((), stack, facts=bool(choice.network))]
    for index, facilitator in enumerate(policy.facilitators):
        if facilitator.name == choice.facilitator:
            lines += teller.item(("facilitators", index), facilitator, layered=True)
            lines += teller.profile(policy.profile_of(facilitator.name))
    for index, route in enumerate(policy.routes):
        if route.name == choice.route:
            lines += teller.item(("routes", index), route, layered=True)
    return [*lines, *teller.spending(choice), *teller.rules(choice)]


def warnings(policy: Policy) -> list[str]:
    """What is sound and yet deserves a look, one sentence each."""
    found = []
    for id, network in policy.networks.items():
        if (in_force := policy.network(id)).is_default:
            timeout = write_duration(in_force.settlement_timeout_s)
            found.append(
                f"networks.{id}: no settlement_timeout chosen, {timeout} is in force; measure and set it"
            )
        if not network.rpc and id.startswith("eip155:"):
            found.append(f"networks.{id}: no rpc, so payments there are not watched; name two endpoints")
        if id not in _KNOWN and (near := [one for one in _KNOWN if sorted(one) == sorted(id)]):
            found.append(f"networks.{id}: no such network is known here; did you mean {near[0]}?")
    return [*found, *_doubtful_urls(policy), *_shadowed_defaults(policy)]


def _doubtful_urls(policy: Policy) -> Iterator[str]:
    """Facilitators whose URL is another one's place, or stands a step too deep."""
    for index, facilitator in enumerate(policy.facilitators):
        path, _, last = facilitator.url.rpartition("/")
        if last in _OPERATIONS:
            added = ", ".join(f"/{one}" for one in _OPERATIONS)
            yield f"facilitators[{index}]: its URL ends in /{last}, and {added} are added to it; write {path}"
        kind = profile_at(facilitator.url, shipped_profiles().values())
        if kind and facilitator.profile is None:
            yield f"facilitators[{index}]: its URL is that of {kind.title}; add `profile: {kind.name}`"


def _shadowed_defaults(policy: Policy) -> Iterator[str]:
    """Shipped values are a network's own, so they come before what `default` says for all networks."""
    for key in _LAYER:
        if key not in policy.default.model_fields_set:
            continue
        over = [
            id
            for id, shipped in SHIPPED.items()
            if key in shipped.model_fields_set
            and policy.layers.stack(id, "", "").find(key)[1] == (SHIPPED_AT, id)
        ]
        if over:
            name = yaml_key(key)
            named = ", ".join(_V1_NAMES.get(id, id) for id in over)
            yield (
                f"default.{name}: does not reach {named}, where the shipped {name} stands; "
                "write it under networks to change it there"
            )


class _Teller:
    """Writes lines, with the place in the file that each value came from."""

    def __init__(self, policy: Policy, tree: Tree) -> None:
        self._policy = policy
        self._places = Places(tree)

    def own(self, path: Path, key: str, value: object) -> Line:
        """A value of a section itself."""
        at = (*path, yaml_key(key))
        return Line(write_path(at), words(key, value), self._places.origin(at) or BUILT_IN)

    def stack(self, path: Path, stack: Stack, *, facts: bool) -> list[Line]:
        """Everything in force once the layers of a combination are laid over each other."""
        lines = []
        for key in (*_FACTS, *_LAYER) if facts else _LAYER:
            lines.append(self._found(path, stack, key))
        if facts:
            lines += self._tokens(path, stack)
        for section in SECTIONS:
            for key in type(getattr(self._policy, section)).model_fields:
                lines.append(self._found(path, stack, key, section))
        return lines

    def network(self, path: Path, stack: Stack) -> list[Line]:
        """A network: its facts, and of the sections what differs there from `default`."""
        lines = [self._found(path, stack, key) for key in (*_FACTS, *_LAYER)]
        lines += self._tokens(path, stack)
        for section in SECTIONS:
            for key in type(getattr(self._policy, section)).model_fields:
                said_at = stack.find(key, section)[1]
                if said_at and said_at[0] in ("networks", SHIPPED_AT):
                    lines.append(self._found(path, stack, key, section))
        return lines

    def item(self, path: Path, item: FacilitatorPolicy | RoutePolicy, *, layered: bool) -> list[Line]:
        """A facilitator or route: its own keys, and those of all layers that it sets."""
        own = [key for key in type(item).model_fields if key not in Layer.model_fields]
        lines = [self.own(path, key, getattr(item, key)) for key in own]
        for key in [] if layered else [key for key in Layer.model_fields if key in item.model_fields_set]:
            if key in SECTIONS:
                section = getattr(item, key)
                lines += [
                    self.own((*path, key), one, getattr(section, one)) for one in section.model_fields_set
                ]
            else:
                lines.append(self.own(path, key, getattr(item, key)))
        return lines

    def with_limit(self, line: Line, choice: Choice) -> Line:
        """The least amount, where the facilitator's profile says it."""
        if (
            line.path != "minimum_amount" or not choice.facilitator or choice.route
        ):  # on a route no profile counts
            return line
        least = words("minimum_amount", self._policy.minimum_amount(choice.network, choice.facilitator))
        if least == line.value:
            return line
        return Line(line.path, least, f"profile {self._policy.profile_of(choice.facilitator).name}")

    def profile(self, profile: Profile) -> list[Line]:
        """What the profile of a facilitator adds."""
        if not profile.name:
            return []
        said = [
            Line(
                f"profile.limits.{yaml_key(key)}",
                words(key, getattr(profile.limits, key)),
                f"profile {profile.name}",
            )
            for key in type(profile.limits).model_fields
            if key in profile.limits.model_fields_set
        ]
        return [Line("profile.title", profile.title, f"profile {profile.name}"), *said]

    def spending(self, choice: Choice) -> list[Line]:
        """What agents may spend, by the rules that may be about the choice."""
        spending = self._policy.spending
        lines = [self.own(("spending",), key, getattr(spending, key)) for key in ("stop", "approvals_last_s")]
        for index, rule in enumerate(spending.rules):
            networks, routes = rule.for_.network, rule.for_.route
            if choice.network and networks and not any(network_matches(choice.network, n) for n in networks):
                continue
            if not choice.route or not routes or choice.route in routes:
                at = self._places.origin(("spending", "rules", index)) or BUILT_IN
                lines.append(Line(f"spending.rules.{rule.name}", words("rules", rule), at))
        return lines

    def rules(self, choice: Choice) -> list[Line]:
        """The rules that may apply, in the order they are asked."""
        lines = []
        for section in ("classify", "act"):
            policy = getattr(self._policy, section)
            for index, rule in enumerate(policy.rules):
                if _may_apply(rule.when, choice, self._policy):
                    path: Path = (section, "rules", index)
                    lines.append(
                        Line(
                            f"{section}.rules.{rule.name}", _rule(rule), self._places.origin(path) or BUILT_IN
                        )
                    )
            if section == "classify" and choice.facilitator:
                lines += self._profile_rules(choice.facilitator)
            for key in type(policy.default).model_fields:
                lines.append(self.own((section, "default"), key, getattr(policy.default, key)))
        return lines

    def _profile_rules(self, facilitator: str) -> list[Line]:
        profile = self._policy.profile_of(facilitator)
        origin = f"profile {profile.name}"
        return [Line(f"classify.rules.{rule.name}", _rule(rule), origin) for rule in profile.classify]

    def _found(self, path: Path, stack: Stack, key: str, section: str = "") -> Line:
        value, said_at = stack.find(key, section)
        shown = (*path, section, yaml_key(key)) if section else (*path, yaml_key(key))
        if said_at is None:
            return Line(write_path(shown), words(key, value), BUILT_IN)
        if said_at[0:1] == (SHIPPED_AT,):
            return Line(write_path(shown), words(key, value), f"shipped for {stack.network}")
        return Line(
            write_path(shown), words(key, value), self._places.origin((*said_at, yaml_key(key))) or BUILT_IN
        )

    def _tokens(self, path: Path, stack: Stack) -> Iterator[Line]:
        for address, token in stack.tokens().items():
            origin = self._places.origin(("networks", stack.network, "tokens", address))
            said = origin or f"shipped for {stack.network}"
            yield Line(write_path((*path, "tokens", address)), words("tokens", token), said)


def _may_apply(when: When, choice: Choice, policy: Policy) -> bool:
    """Whether a rule can match for this combination at all."""
    if choice.facilitator and when.facilitator and choice.facilitator not in when.facilitator:
        return False
    profile = policy.profile_of(choice.facilitator).name
    if choice.facilitator and when.profile and profile not in when.profile:
        return False
    family = choice.network.partition(":")[0] + ":*"
    return not choice.network or not when.network or bool({choice.network, family} & set(when.network))


def _rule(rule: ClassifyRule | ActRule) -> str:
    """`when {…} then {…}`, as far as it is written."""
    then = {key: getattr(rule, key) for key in type(rule).model_fields if key in rule.model_fields_set}
    told = ", ".join(
        f"{yaml_key(key)}: {words(key, value)}" for key, value in then.items() if key not in ("name", "when")
    )
    return f"when {words('when', rule.when)}: {told}"
