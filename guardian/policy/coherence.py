"""What must agree between the sections of a policy: references, limits over layers, paths. No I/O.

Each check raises Misplaced with the path of the value to blame; load.py finds the line.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from guardian.policy.section import Section, yaml_key
from guardian.policy.spending import refuse_senseless
from guardian.policy.tree import Path
from guardian.policy.types import Misplaced, nearest, reserved_route
from guardian.policy.units import show, write_duration

if TYPE_CHECKING:
    from guardian.policy.model import Policy

_ORDERED: Final = (
    ("settle", "hold_s", "hold_without_hash_s"),
    ("preflight", "shortest_validity_s", "longest_validity_s"),
)
"""Section, and two keys of it of which the first may not be more than the second."""

SHORTEST_RETENTION_S: Final = 3600.0
"""Far above what clocks and chains may differ by: within that a settled payload that no record knows any more
cannot be told from a new one."""


def refuse_incoherent(policy: "Policy") -> None:
    """Raise Misplaced (or ValueError, for what has no place) for the first thing that does not agree."""
    if not policy.facilitators and not policy.routes:
        raise ValueError("neither facilitators nor routes: name at least one of either")
    _refuse_collisions(policy)
    _refuse_equal_webhooks(policy)
    _refuse_unknown_facilitators(policy)
    _refuse_missing_defaults(policy)
    _refuse_out_of_place(policy)
    refuse_senseless(policy)
    if policy.retention_s < SHORTEST_RETENTION_S:
        law = "law 4 (one authorization, one settlement, one delivery)"
        why = "forgotten so soon, a payment may be delivered again"
        raise Misplaced(("retention",), f"{law}: {why}; write 1h or more")
    for section, low, high in _ORDERED:
        _refuse_disorder(policy, section, low, high)


def _refuse_collisions(policy: "Policy") -> None:
    urls = [facilitator.url for facilitator in policy.facilitators]
    for index, route in enumerate(policy.routes):
        if taken := reserved_route(route.name, urls):
            raise Misplaced(("routes", index, "name"), f"route {route.name!r} {taken}; choose another name")


def _refuse_equal_webhooks(policy: "Policy") -> None:
    seen: set[str] = set()
    for index, webhook in enumerate(policy.webhooks):
        if webhook.name in seen:
            message = f"the name {show(webhook.name)} is taken; events wait by it, so choose another name"
            raise Misplaced(("webhooks", index, "name"), message)
        seen.add(webhook.name)


def _refuse_unknown_facilitators(policy: "Policy") -> None:
    known = [facilitator.name for facilitator in policy.facilitators]
    for path, name in _references(policy):
        if name not in known:
            raise Misplaced(path, f"there is no facilitator {show(name)}; {nearest(name, known)}")
    for index, facilitator in enumerate(policy.facilitators):
        for place, name in enumerate(facilitator.failover_to or ()):
            if name == facilitator.name:
                message = f"{show(name)} names itself; leave it out, `retry` repeats at the same facilitator"
                raise Misplaced(("facilitators", index, "failover_to", place), message)


def _references(policy: "Policy") -> Iterator[tuple[Path, str]]:
    """Everywhere that a facilitator is named."""
    for index, facilitator in enumerate(policy.facilitators):
        for place, name in enumerate(facilitator.failover_to or ()):
            yield ("facilitators", index, "failover_to", place), name
    for section in ("classify", "act"):
        for index, rule in enumerate(getattr(policy, section).rules):
            for place, name in enumerate(rule.when.facilitator):
                yield (section, "rules", index, "when", "facilitator", place), name
    for index, case in enumerate(policy.tests):
        if case.given.facilitator:
            yield ("tests", index, "given", "facilitator"), case.given.facilitator


def _refuse_missing_defaults(policy: "Policy") -> None:
    """What nothing recognises must be decided by a person, in sight of the rules."""
    for section, cure in (("classify", "{settle: settlement, verify: unknown}"), ("act", "{}")):
        if section in policy.model_fields_set and "default" not in getattr(policy, section).model_fields_set:
            raise Misplaced((section,), f"default is missing; end the rules with `default: {cure}`")


def _refuse_out_of_place(policy: "Policy") -> None:
    """What is said of a 402 before anybody has chosen a network, or at a facilitator that it never names."""
    facilitators: list[tuple[Path, Section]] = [
        (("facilitators", at), one) for at, one in enumerate(policy.facilitators)
    ]
    networks: list[tuple[Path, Section]] = [(("networks", id), one) for id, one in policy.networks.items()]
    for section, layers in (("demands", facilitators), ("offers", [*facilitators, *networks])):
        for path, layer in layers:
            if section in layer.model_fields_set:
                said = f"{section} says nothing here; write it under a route, or at the top for all routes"
                raise Misplaced((*path, section), said)


def _refuse_disorder(policy: "Policy", section: str, low: str, high: str) -> None:
    """No combination of layers may put `low` above `high`, also where they come from different ones.

    Any two layers meet in some combination, unless they are of one kind; so it is enough to compare the
    extremes of each two kinds, leaving out a key that the more specific of the two overrides.
    """
    kinds = list(_kinds(policy, section))
    for (depth, lows), (other, highs) in product(enumerate(kinds), repeat=2):
        if depth == other:
            pairs = [(one, one) for one in lows if {low, high} <= one.sets]
        else:
            pairs = _extremes(lows, highs, low, high, low_is_nearer=depth < other)
        for below, above in pairs:
            if below.value(low) > above.value(high):
                raise _disorder(section, (below, low), (above, high), blame_low=depth < other)


@dataclass(frozen=True, slots=True)
class _Part:
    """A section on one layer. sets: the keys that it decides; written: of them, those in the file."""

    path: Path
    section: Section
    sets: Set[str]
    written: Set[str]

    def value(self, key: str) -> float:
        return float(getattr(self.section, key))


def _extremes(
    lows: Sequence[_Part], highs: Sequence[_Part], low: str, high: str, *, low_is_nearer: bool
) -> list[tuple[_Part, _Part]]:
    least = [one for one in lows if low in one.sets and not (low_is_nearer and high in one.sets)]
    most = [one for one in highs if high in one.sets and (low_is_nearer or low not in one.sets)]
    if not least or not most:
        return []
    return [(max(least, key=lambda one: one.value(low)), min(most, key=lambda one: one.value(high)))]


def _disorder(section: str, low: tuple[_Part, str], high: tuple[_Part, str], *, blame_low: bool) -> Misplaced:
    """Blames the nearer layer, and on one layer the key that somebody wrote."""
    (below, least), (above, most) = low, high
    if below is above:
        blame_low = least in below.written
    part, key = low if blame_low else high
    return Misplaced(
        (*part.path, section, yaml_key(key)),
        f"{yaml_key(most)} ({write_duration(above.value(most))}) is shorter than {yaml_key(least)} "
        f"({write_duration(below.value(least))}); make it at least as long",
    )


def _kinds(policy: "Policy", section: str) -> Iterator[list[_Part]]:
    """The sections of each kind of layer, the most specific kind first; the last always holds."""
    for kind, items in (
        ("routes", enumerate(policy.routes)),
        ("facilitators", enumerate(policy.facilitators)),
        ("networks", policy.networks.items()),
    ):
        yield [_part((kind, at), getattr(layer, section)) for at, layer in items]
    default = policy.layers.stack("", "", "").lay(section)
    path: Path = () if section in policy.model_fields_set else ("default",)
    written = getattr(policy if path == () else policy.default, section).model_fields_set
    yield [_Part(path, default, frozenset(type(default).model_fields), written)]


def _part(path: Path, section: Section) -> _Part:
    return _Part(path, section, section.model_fields_set, section.model_fields_set)
