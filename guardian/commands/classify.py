"""`guardian classify`: what one reply of a facilitator means under a policy, and what is done about it."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from guardian.commands.networks import read_network
from guardian.commands.output import print_json, print_lines
from guardian.errors import GuardianError, PolicyError

if TYPE_CHECKING:
    from guardian.policy.judge import Dialect, Judgement
    from guardian.policy.model import Policy
    from guardian.policy.profile import Profile
    from guardian.policy.rules import ActPolicy, ClassifyPolicy

MAX_BYTES = 1024 * 1024  # what the guardian itself takes of a reply

Operation_ = Annotated[str, typer.Option("--operation", help="What was asked: settle or verify.")]
Status = Annotated[int, typer.Option(min=100, max=599, help="HTTP status of the reply.")]
Profile_ = Annotated[
    str | None, typer.Option("--profile", help="The facilitator's dialect, where it has one.")
]
File = Annotated[str | None, typer.Option("--policy", help="A policy file, for its rules.")]
Facilitator_ = Annotated[
    str | None, typer.Option("--facilitator", help="One of the policy, for its profile and rules.")
]
Network_ = Annotated[
    str, typer.Option("--network", help="For rules over networks: a CAIP-2 id or a v1 name.")
]
Transport_ = Annotated[
    str, typer.Option("--transport", help="How far it got: reply, not_sent, timeout or lost.")
]
History_ = Annotated[str, typer.Option("--history", help="What came before: first, repeated or in_doubt.")]

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class _Rules:
    """A policy as far as it judges, with one facilitator's profile."""

    classify: "ClassifyPolicy"
    act: "ActPolicy"
    profile: "Dialect"

    def profile_of(self, _facilitator: str, /) -> "Dialect":
        return self.profile


def classify(
    operation: Operation_,
    status: Status = 200,
    profile: Profile_ = None,
    policy: File = None,
    facilitator: Facilitator_ = None,
    network: Network_ = "",
    transport: Transport_ = "reply",
    history: History_ = "first",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Classify a facilitator's reply; its body comes on stdin."""
    from guardian.policy.judge import judge
    from guardian.policy.rules import Heard, History, Transport
    from guardian.settlement.verdict import Operation

    asked, got = _word(Operation, operation, "operation"), _word(Transport, transport, "transport")
    before = _word(History, history, "history")
    rules, facilitator = _rules(policy, facilitator, profile)
    replied = got is Transport.REPLY
    heard = Heard(
        operation=asked,
        facilitator=facilitator,
        profile=rules.profile.name,
        network=read_network(network) if network else "",
        status=status if replied else 0,
        body=_body() if replied else b"",
        transport=got,
        history=before,
        detail="" if replied else str(got),
    )
    fields = _fields(judge(rules, heard))
    if as_json:
        print_json(fields)
    else:
        print_lines(
            *(f"{name + ':':<13}{_written(value)}" for name, value in fields.items() if value not in ("", []))
        )


def _rules(file: str | None, facilitator: str | None, profile: str | None) -> tuple[_Rules, str]:
    """What judges: the rules of a policy file, or none; the profile named, or the facilitator's own."""
    from guardian.policy.load import load_policy
    from guardian.policy.profile import NO_PROFILE
    from guardian.policy.rules import ActPolicy, ClassifyPolicy

    if file is None:
        if facilitator is not None:
            raise GuardianError("--facilitator: which one is that? Name the policy with --policy")
        chosen = _profile(profile, None) if profile else NO_PROFILE
        return _Rules(ClassifyPolicy(), ActPolicy(), chosen), ""
    loaded = load_policy(file)
    name = _facilitator(loaded, facilitator)
    chosen = _profile(profile, FilePath(file).parent) if profile else loaded.profile_of(name)
    return _Rules(loaded.classify, loaded.act, chosen), name


def _profile(name: str, beside: FilePath | None) -> "Profile":
    from guardian.policy.profile import load_profile

    try:
        return load_profile(name, beside)
    except PolicyError as fault:
        if fault.file:
            raise
        raise GuardianError(f"--profile: {fault}") from fault


def _facilitator(policy: "Policy", name: str | None) -> str:
    known = [facilitator.name for facilitator in policy.facilitators]
    if name is None:
        return known[0] if known else ""
    if name not in known:
        raise GuardianError(f"--facilitator: {name[:40]!r} is not in the policy; known: {', '.join(known)}")
    return name


def _word(words: type[Word], said: str, option: str) -> Word:
    if said not in tuple(words):
        known = ", ".join(words)
        raise GuardianError(f"--{option}: {said[:40]!r} is not known; use one of {known}")
    return words(said)


def _fields(judgement: "Judgement") -> dict[str, object]:
    verdict = judgement.verdict
    return {
        "class": str(verdict.outcome),
        "rule": verdict.rule,
        "reason": verdict.reason,
        "message": verdict.message,
        "transaction": verdict.transaction,
        "cure": verdict.cure,
        "action": judgement.action,
        "retry": verdict.retry,
        "failover": verdict.failover,
        "circuit": str(verdict.health),
        "watch": verdict.watch,
        "answer": verdict.answer,
        "alert": str(verdict.alert),
        "shadows": [f"{one.section} {one.rule}: {one.would}" for one in judgement.shadows],
    }


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _body() -> bytes:
    body = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise GuardianError("stdin: the reply is larger than 1 MiB; the guardian takes no more of one either")
    return body
