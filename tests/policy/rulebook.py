"""A policy as far as it judges: rules written as in the file, and one facilitator with a profile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardian.policy.rules import ActPolicy, ClassifyPolicy, ClassifyRule
from guardian.policy.types import FROM_FILE

Written = Mapping[str, Any]


@dataclass(frozen=True)
class Dialect:
    name: str = ""
    classify: tuple[ClassifyRule, ...] = ()


@dataclass(frozen=True)
class Facilitator:
    name: str


@dataclass(frozen=True)
class Rulebook:
    classify: ClassifyPolicy
    act: ActPolicy
    profile: Dialect = Dialect()
    facilitators: tuple[Facilitator, ...] = (Facilitator("main"),)

    def profile_of(self, facilitator: str) -> Dialect:
        return self.profile if facilitator == "main" else Dialect()


def classify_rule(**keys: Any) -> ClassifyRule:
    return ClassifyRule.model_validate({"name": "r", "when": {}, **keys}, context=FROM_FILE)


def rulebook(
    classify: Sequence[Written] = (),
    act: Sequence[Written] = (),
    *,
    default: Written | None = None,
    verify: str = "unknown",
    profile: Sequence[Written] = (),
    profile_name: str = "shop",
) -> Rulebook:
    """Rules in the words of the file."""

    def numbered(rules: Sequence[Written], letter: str) -> list[Written]:
        return [{"name": f"{letter}{number}", "when": {}, **rule} for number, rule in enumerate(rules)]

    return Rulebook(
        ClassifyPolicy.model_validate(
            {"rules": numbered(classify, "c"), "default": {"verify": verify}}, context=FROM_FILE
        ),
        ActPolicy.model_validate({"rules": numbered(act, "a"), "default": default or {}}, context=FROM_FILE),
        Dialect(profile_name, tuple(classify_rule(**rule) for rule in numbered(profile, "p"))),
    )
