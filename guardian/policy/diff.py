"""What changes for whom between two policies: values in force are compared, not lines. No I/O.

A key that moved to another layer and means the same is no change; a key of `default` that changes is told
for the networks it reaches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guardian.policy.callers import CallersPolicy
from guardian.policy.keys import SECTIONS, Layer
from guardian.policy.model import Policy
from guardian.policy.network import SHIPPED, NetworkPolicy
from guardian.policy.places import Places
from guardian.policy.section import Section, yaml_key
from guardian.policy.tree import Path
from guardian.policy.validate import write_path
from guardian.policy.words import words

OTHER: Final = ""
"""Stands for every network, facilitator or route that no key names."""

ANY: Final = "*"
"""Stands for all of them: what is more specific decides alone."""

OTHERS: Final = {kind: f"every other {kind}" for kind in ("network", "facilitator", "route")}


@dataclass(frozen=True, slots=True)
class Change:
    """One change. what: a key, or what came and went; before, after: as the file writes it, or empty;
    networks, facilitators, routes: for whom, empty for all; lines: where it stands in each file, 0 where
    it stands in none."""

    what: str
    before: str = ""
    after: str = ""
    networks: tuple[str, ...] = ()
    facilitators: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    lines: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        changed = (
            f": {self.before or 'nothing'} → {self.after or 'nothing'}" if self.before != self.after else ""
        )
        on = "on" if OTHERS["route"] in self.routes else "on route"
        whom = [("for", self.networks), ("through", self.facilitators), (on, self.routes)]
        told = "".join(f" {word} {_listed(names)}" for word, names in whom if names)
        return f"{self.what}{changed}{told}{_lines(self.lines)}"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two policies and its text."""

    policy: Policy
    places: Places

    def line(self, path: Path) -> int:
        """Where a path stands; 0 where it does not."""
        return self.places.line(path)


def diff(old: Side, new: Side) -> list[Change]:
    """Every change, in the policy's order; empty where both mean the same."""
    changes = list(_own((), "retention_s", old.policy, new.policy, old, new))
    changes += _items("facilitator", ("facilitators",), old, new)
    changes += _order(old, new)
    changes += _items("route", ("routes",), old, new)
    changes += _values(old, new)
    changes += _tokens(old, new)
    for key in CallersPolicy.model_fields:
        changes += _own(("callers",), key, old.policy.callers, new.policy.callers, old, new)
    changes += _items("webhook", ("webhooks",), old, new)
    for key in ("stop", "approvals_last_s"):
        changes += _own(("spending",), key, old.policy.spending, new.policy.spending, old, new)
    changes += _items("spending rule", ("spending", "rules"), old, new)
    for section in ("classify", "act"):
        changes += _items(f"{section} rule", (section, "rules"), old, new)
        changes += _rule_order(section, old, new)
        was, now = getattr(old.policy, section).default, getattr(new.policy, section).default
        for key in type(now).model_fields:
            changes += _own((section, "default"), key, was, now, old, new)
    return [*changes, *_items("test", ("tests",), old, new)]


def _items(kind: str, path: Path, old: Side, new: Side) -> Iterator[Change]:
    """What came, what went, and what changed of its own keys, by name."""
    was, now = _named(old.policy, path), _named(new.policy, path)
    for name, (index, _) in was.items():
        if name not in now:
            yield Change(f"{_item(kind, name)} is gone", lines=(old.line((*path, index)), 0))
    for name, (index, item) in now.items():
        if name not in was:
            asked = _place(list(now), index) if kind.endswith("rule") else ""
            yield Change(f"{_item(kind, name)} is new{asked}", lines=(0, new.line((*path, index))))
            continue
        before, earlier = was[name]
        for key in type(item).model_fields:
            if isinstance(item, Layer) and key in Layer.model_fields:
                continue  # told by _values, as it comes into force
            at = ((*path, before, yaml_key(key)), (*path, index, yaml_key(key)))
            yield from _one(
                f"{_item(kind, name)}: {yaml_key(key)}",
                key,
                getattr(earlier, key),
                getattr(item, key),
                at,
                old,
                new,
            )
    if kind == "facilitator":
        yield from _profiles(old, new, [name for name in now if name in was])


def _item(kind: str, name: str) -> str:
    """The names of tests are sentences."""
    return f"{kind} {name!r}" if kind == "test" else f"{kind} {name}"


def _place(names: Sequence[str], index: int) -> str:
    """The first rule that matches decides, so that its place matters."""
    return f", asked after {names[index - 1]}" if index else ", asked first"


def _named(policy: Policy, path: Path) -> dict[str, tuple[int, Any]]:
    found: Any = policy
    for step in path:
        found = getattr(found, str(step))
    return {item.name: (index, item) for index, item in enumerate(found)}


def _own(path: Path, key: str, was: Section, now: Section, old: Side, new: Side) -> Iterator[Change]:
    at = (*path, yaml_key(key))
    yield from _one(write_path(at), key, getattr(was, key), getattr(now, key), (at, at), old, new)


def _one(
    what: str, key: str, was: object, now: object, at: tuple[Path, Path], old: Side, new: Side
) -> Iterator[Change]:
    if was != now:
        before, after = _told_apart(words(key, was), words(key, now))
        yield Change(what, before, after, lines=(old.line(at[0]), new.line(at[1])))


def _profiles(old: Side, new: Side, names: Sequence[str]) -> Iterator[Change]:
    for name in names:
        was, now = old.policy.profile_of(name), new.policy.profile_of(name)
        if was.name == now.name and was != now:
            yield Change(f"facilitator {name}: its profile {now.name} says something else")


def _order(old: Side, new: Side) -> Iterator[Change]:
    """In which order facilitators are asked, among those that are in both."""
    was, now = _asked(old.policy), _asked(new.policy)
    both = [name for name in was if name in now]
    if both != [name for name in now if name in both]:
        yield Change("facilitators are asked in another order", ", ".join(was), ", ".join(now))


def _asked(policy: Policy) -> list[str]:
    """Names in the order they are asked; equal order keeps the place in the list."""
    order = {
        one.name: index if one.order is None else one.order for index, one in enumerate(policy.facilitators)
    }
    return sorted(order, key=lambda name: order[name])


def _rule_order(section: str, old: Side, new: Side) -> Iterator[Change]:
    was, now = _named(old.policy, (section, "rules")), _named(new.policy, (section, "rules"))
    before, after = [name for name in was if name in now], [name for name in now if name in was]
    if before != after:
        yield Change(f"{section} rules are asked in another order", ", ".join(before), ", ".join(after))


def _values(old: Side, new: Side) -> Iterator[Change]:
    """Values in force, for every combination that can differ."""
    single = [key for key in NetworkPolicy.model_fields if key not in (*SECTIONS, "tokens")]
    inside = [(section, key) for section in SECTIONS for key in type(getattr(Layer(), section)).model_fields]
    for section, key in [*(("", key) for key in single), *inside]:
        yield from _value(section, key, old, new)


def _value(section: str, key: str, old: Side, new: Side) -> Iterator[Change]:
    """One key, told once for everybody who sees the same change."""
    about = _Concerned.by(section, key, old.policy, new.policy)
    groups: dict[tuple[str, str, tuple[int, int]], list[_Whom]] = {}
    for whom in about.all():
        was, now = (_told(side, section, key, whom) for side in (old, new))
        if was[0] != now[0]:
            before, after = _told_apart(words(key, was[0]), words(key, now[0]))
            groups.setdefault((before, after, (was[1], now[1])), []).append(whom)
    name = f"{section}.{yaml_key(key)}" if section else yaml_key(key)
    for (before, after, lines), found in groups.items():
        for networks, facilitators, routes in about.joined(found):
            yield Change(name, before, after, networks, facilitators, routes, lines)


_Whom = tuple[str, str, str]
"""Network, facilitator, route."""


def _told(side: Side, section: str, key: str, whom: _Whom) -> tuple[object, int]:
    network, facilitator, route = whom
    value, said_at = side.policy.layers.stack(*whom).find(key, section)
    if (section, key, route) == ("", "minimum_amount", OTHER) and facilitator not in (OTHER, ANY):
        value = side.policy.minimum_amount(network, facilitator)  # the profile's limit counts too
    return value, side.line((*said_at, yaml_key(key))) if said_at is not None else 0


@dataclass(frozen=True, slots=True)
class _Concerned:
    """Where a key may differ from what holds elsewhere. overriding: facilitators and routes that name the
    key in both policies, so that what is less specific does not matter there."""

    networks: tuple[str, ...]
    facilitators: tuple[str, ...]
    routes: tuple[str, ...]
    overriding: frozenset[tuple[str, str]]

    @classmethod
    def by(cls, section: str, key: str, old: Policy, new: Policy) -> "_Concerned":
        found: dict[str, list[str]] = {}
        overriding = set()
        for kind in ("facilitators", "routes"):
            was, now = ({one.name: one for one in getattr(policy, kind)} for policy in (old, new))
            both = [name for name in was if name in now]
            sets = {name: [_sets(side[name], section, key) for side in (was, now)] for name in both}
            found[kind] = [name for name in both if any(sets[name])]
            overriding |= {(kind, name) for name in both if all(sets[name])}
            if kind == "routes" or len(found[kind]) < len(both) or not both:
                found[kind].append(OTHER)
        networks = dict.fromkeys((*old.networks, *new.networks, *SHIPPED, OTHER))
        return cls(
            tuple(networks), tuple(found["facilitators"]), tuple(found["routes"]), frozenset(overriding)
        )

    def all(self) -> Iterator[_Whom]:
        """Every combination that may differ."""
        for route in self.routes:
            if ("routes", route) in self.overriding:
                yield ANY, ANY, route
                continue
            for facilitator in self.facilitators:
                over = ("facilitators", facilitator) in self.overriding
                for network in (ANY,) if over else self.networks:
                    yield network, facilitator, route

    def joined(
        self, found: list[_Whom]
    ) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
        """Networks, facilitators and routes, as few groups of them as say the same."""
        through: dict[tuple[str, str], list[str]] = {}
        for network, facilitator, route in found:
            through.setdefault((facilitator, route), []).append(network)
        on: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for (facilitator, route), networks in through.items():
            on.setdefault((_names(networks, self.networks, "network"), route), []).append(facilitator)
        told: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for (whom, route), facilitators in on.items():
            told.setdefault((whom, _names(facilitators, self.facilitators, "facilitator")), []).append(route)
        for (whom, who), routes in told.items():
            yield whom, who, _names(routes, self.routes, "route")


def _sets(layer: Section, section: str, key: str) -> bool:
    if section:
        return section in layer.model_fields_set and key in getattr(layer, section).model_fields_set
    return key in layer.model_fields_set


def _names(chosen: Sequence[str], among: Sequence[str], kind: str) -> tuple[str, ...]:
    """Empty where it is all of them."""
    if ANY in chosen or set(chosen) >= set(among):
        return ()
    return tuple(name or OTHERS[kind] for name in dict.fromkeys(chosen))


def _tokens(old: Side, new: Side) -> Iterator[Change]:
    for id in dict.fromkeys((*old.policy.networks, *new.policy.networks)):
        was, now = (side.policy.network(id).tokens for side in (old, new))
        for address in dict.fromkeys((*was, *now)):
            before, after = was.get(address), now.get(address)
            if before != after:
                told = [words("tokens", one) if one else "" for one in (before, after)]
                lines = [side.line(("networks", id, "tokens", address)) for side in (old, new)]
                yield Change(f"token {address}", told[0], told[1], (id,), lines=(lines[0], lines[1]))


def _told_apart(before: str, after: str) -> tuple[str, str]:
    """What is shown without its secret part may look the same."""
    return (before, after) if before != after else (before, f"{after} (another path or key)")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _lines(lines: tuple[int, int]) -> str:
    was, now = lines
    if was and now:
        return f" (line {was})" if was == now else f" (line {was} → {now})"
    return f" (line {was} before)" if was else f" (line {now})" if now else ""
