"""What the policy makes of one attempt: built-in classification, rules, what is done. Pure, no I/O.

A success stays one, and costs nothing here. Of anything else the first rule of the policy decides, then
of the facilitator's profile, then what is built in. On settle a rule may always make a reply doubtful; it
may make it certain only where the built-in doubt is soft (see classify.py) or where it is certain already:
what speaks for a broadcast is not overruled (law 1). What came before is applied after the rules (law 3),
and whatever an action asks for, a doubt is watched, answered as pending and never sent again (law 6).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from guardian.policy.rules import (
    Action,
    ActPolicy,
    Alert,
    ClassifyPolicy,
    ClassifyRule,
    Heard,
    History,
    Mode,
    Said,
    Transport,
    read_said,
)
from guardian.settlement.classify import classify_not_sent, classify_reply, classify_reply_lost, taint
from guardian.settlement.verdict import IN_DOUBT, Health, Operation, Outcome, Verdict, by_class

PASSED_OVER = "passed_over"
"""What a classify rule would do that may not make this reply certain."""

_NOTHING = Action()


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that matched and was not applied. would: the class or the action (`retry=false watch=true`)
    that it stands for, or `passed_over` where the law does not let it decide; a bounded set."""

    rule: str
    section: Literal["classify", "act"]
    would: str


class Judgement(msgspec.Struct, frozen=True):
    """The verdict; the act rule that was applied, `default`, or nothing; and rules not applied."""

    verdict: Verdict
    shadows: tuple[Shadow, ...] = ()
    action: str = ""


class Dialect(Protocol):
    """The parts of a facilitator's profile that judge a reply."""

    @property
    def name(self) -> str: ...

    @property
    def classify(self) -> tuple[ClassifyRule, ...]: ...


class Judging(Protocol):
    """The parts of a policy that judge a reply."""

    @property
    def classify(self) -> ClassifyPolicy: ...

    @property
    def act(self) -> ActPolicy: ...

    def profile_of(self, facilitator: str, /) -> Dialect: ...


def judge(policy: Judging, heard: Heard) -> Judgement:
    """What one attempt proves and what is done about it."""
    verdict = _built_in(heard)
    if verdict.outcome is Outcome.SUCCESS:
        return Judgement(verdict)
    profile = policy.profile_of(heard.facilitator)
    rules = (*policy.classify.rules, *profile.classify)
    acting = policy.act.rules or policy.act.default != _NOTHING
    shadows: list[Shadow] = []
    said = read_said(heard) if rules or policy.act.rules else Said()
    if rules:
        verdict = _classified(rules, verdict, heard, said, profile.name, shadows)
    if verdict.outcome is Outcome.UNKNOWN and verdict.soft:
        verdict = _by_default(policy.classify, heard, verdict)
    tainted, prior = heard.history is History.IN_DOUBT, heard.history is History.REPEATED
    verdict = taint(heard.operation, verdict, tainted=tainted, prior=prior)
    if not acting:
        return Judgement(verdict, tuple(shadows))
    action, name = _action(policy.act, verdict, heard, said, profile.name, shadows)
    return Judgement(_acted(heard, verdict, action), tuple(shadows), name)


def _built_in(heard: Heard) -> Verdict:
    """The verdict on the attempt alone, without what came before it."""
    if heard.transport is Transport.REPLY:
        return classify_reply(heard.operation, heard.status, heard.body)
    if heard.transport is Transport.NOT_SENT:
        return classify_not_sent(heard.operation, heard.detail)
    waited = heard.transport is Transport.TIMEOUT
    return classify_reply_lost(heard.operation, heard.detail, waited=waited)


def _classified(
    rules: tuple[ClassifyRule, ...],
    verdict: Verdict,
    heard: Heard,
    said: Said,
    profile: str,
    shadows: list[Shadow],
) -> Verdict:
    for rule in rules:
        if not rule.when.matches(heard, said, profile):
            continue
        ruled = _ruled(rule, verdict, heard)
        if rule.mode is Mode.SHADOW or ruled is None:
            shadows.append(Shadow(rule.name, "classify", rule.class_ if ruled else PASSED_OVER))
            continue
        return ruled
    return verdict


def _ruled(rule: ClassifyRule, verdict: Verdict, heard: Heard) -> Verdict | None:
    """The verdict as a rule has it; None where the law does not let the rule decide."""
    outcome = Outcome(rule.class_)
    if heard.operation is Operation.SETTLE:
        hard = verdict.outcome in IN_DOUBT and not verdict.soft
        if hard and outcome not in IN_DOUBT:
            return None
    elif outcome is Outcome.SETTLEMENT:
        outcome = Outcome.UNKNOWN  # nothing is settled by a /verify
    health = _allowed(heard, outcome, rule.health or verdict.health)
    return by_class(
        heard.operation,
        replace(
            verdict,
            outcome=outcome,
            rule=rule.name,
            health=health,
            cure=rule.cure or verdict.cure,
            retry_after_ok=True,
            failover=rule.failover,
            watch=False,
            answer="reason",
            alert=verdict.alert if rule.alert is Alert.OFF else rule.alert,
            soft=False,
        ),
    )


def _by_default(classify: ClassifyPolicy, heard: Heard, verdict: Verdict) -> Verdict:
    """What the policy says of a reply to /verify that nothing recognises; on /settle it is in doubt."""
    outcome = Outcome(classify.default.verify)
    if heard.operation is Operation.SETTLE or outcome is verdict.outcome:
        return verdict
    transient = outcome is Outcome.TRANSIENT
    ruled = replace(verdict, outcome=outcome, rule="default", retry_after_ok=True, failover=transient)
    return by_class(heard.operation, ruled)


def _action(
    act: ActPolicy, verdict: Verdict, heard: Heard, said: Said, profile: str, shadows: list[Shadow]
) -> tuple[Action, str]:
    for rule in act.rules:
        if rule.when.class_ and verdict.outcome not in rule.when.class_:
            continue
        if not rule.when.matches(heard, said, profile):
            continue
        if rule.mode is Mode.ENFORCE:
            return rule, rule.name
        shadows.append(Shadow(rule.name, "act", _written(rule)))
    return act.default, "" if act.default == _NOTHING else "default"


def _written(action: Action) -> str:
    given = {name: getattr(action, name) for name in Action.model_fields}
    return " ".join(f"{name}={str(value).lower()}" for name, value in given.items() if value is not None)


def _acted(heard: Heard, verdict: Verdict, action: Action) -> Verdict:
    """The verdict with what the action asks for, as far as the law lets it."""
    in_doubt = heard.operation is Operation.SETTLE and verdict.outcome in IN_DOUBT
    watch = in_doubt or _chosen(action.watch, verdict.watch)
    again = not (heard.operation is Operation.SETTLE and watch)  # what is looked for is not sent again
    return replace(
        verdict,
        retry=again and _chosen(action.retry, verdict.retry),
        failover=again and _chosen(action.failover, verdict.failover),
        health=_allowed(heard, verdict.outcome, action.circuit or verdict.health),
        watch=watch,
        answer="pending" if in_doubt else action.answer or verdict.answer,
        alert=verdict.alert if action.alert is None else action.alert,
    )


def _chosen(asked: bool | None, given: bool) -> bool:
    return given if asked is None else asked


def _allowed(heard: Heard, outcome: Outcome, health: Health) -> Health:
    """A settle that takes too long speaks of the chain, not of the facilitator."""
    waited = heard.operation is Operation.SETTLE and heard.transport is Transport.TIMEOUT
    return Health.NEUTRAL if waited and outcome in IN_DOUBT and health is Health.FAULTY else health
