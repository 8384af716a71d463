"""What no policy may say, because it would lose or double money: each refusal names its law. Pure.

This is the door: a rule is refused where it could do harm on some reply. The runtime in judge.py holds the
same laws once more, reply by reply.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from guardian.policy.judge import Dialect, Judging
from guardian.policy.rules import (
    Action,
    ActRule,
    ClassifyRule,
    History,
    Transport,
    When,
    WhenClass,
    has_words,
)
from guardian.policy.types import Misplaced
from guardian.policy.units import show
from guardian.policy.validate import write_path
from guardian.settlement.reasons import ERROR_TYPES, REASONS
from guardian.settlement.texts.reading import read_text
from guardian.settlement.texts.rule import Sign
from guardian.settlement.verdict import IN_DOUBT, Health, Operation, Outcome

Path = tuple[str | int, ...]

LAWS: Final[dict[int | str, str]] = {
    1: "law 1 (unresolved is not failed)",
    3: "law 3 (only the chain settles a doubt)",
    6: "law 6 (a settle is sent again only when it is proven not to have been executed)",
    "circuit": "a slow chain is no broken facilitator",
    "success": "a success stays a success",
}

_ONLY_VERIFY: Final = "add operation: verify"
_CERTAIN_CLASSES: Final = "class: [transient, permanent] to its when"

AMBIGUOUS_STATUSES: Final = frozenset({"408", "409", "425", "499"})
"""The 4xx that tell of waiting or of another attempt, so that something may be under way."""

EDGE_STATUS: Final = "503"
EDGE_BODIES: Final = frozenset({"empty", "html", "not_json"})

SETTLEMENT_TEXTS: Final = (
    "execution reverted",
    "transaction failed",
    "transaction reverted",
    "settlement failed",
    "failed to settle payment",
    "payment settlement failed",
    "settle failed",
    "internal server error",
    "internal error",
    "unexpected error",
    "unknown error",
    "something went wrong",
    "error",
    "failed",
    "service unavailable",
    "bad gateway",
    "gateway timeout",
    "context deadline exceeded",
    "timeout exceeded when waiting for receipt",
    "request timed out",
    "connection reset by peer",
    "econnreset",
    "socket hang up",
    "fetch failed",
    "nonce too low",
    "already known",
    "replacement transaction underpriced",
    "transaction underpriced",
    "max fee per gas less than block base fee",
    "fiattokenv2: authorization is used or canceled",
    "transaction with hash: '0xab' not found.",
    'timed out while waiting for transaction with hash "0xab" to be confirmed.',
    "transaction hexbytes('0xab') is not in the chain after 120 seconds",
    "transaction was not confirmed in 30.00 seconds. it is unknown if it succeeded or failed.",
    "failed to send transaction",
    "could not get receipt",
    "pendingtransactionerror: txwatcher(timeout)",
    "bundle not included",
    "429 client error: too many requests for url: https://node.example/",
    "error sending request for url (https://node.example/)",
    'http request failed. status: 503 url: https://node.example/ request body: {"method":"eth_call"}',
    "rpc error: code = unavailable desc = transport is closing",
    "missing or invalid parameters. double check you have provided the correct parameters.",
    "unexpected token < in json at position 0",
    "transaction failed: transactionexecutionerror: execution reverted",
    "nonce provided for the transaction (12) is lower than the current nonce of the account. try increasing "
    "the nonce or find the latest nonce with `gettransactioncount`.",
    "account sequence mismatch, expected 12, got 11: incorrect account sequence",
    "settlement already initiated for this verification",
    "settlement error: cannot connect to host mainnet.base.org:443 ssl:default [connect call failed]",
    "terminal settlement response is unavailable",
    "failed to parse facilitator response: unexpected token at '<html>'",
    "order is not yet completed",
    "transaction submitted but confirmation failed: timeout",
    "transaction not found or not yet confirmed",
    "http2: server sent goaway and closed the connection; laststreamid=1999, errcode=no_error",
    "no upstreams left to select",
    "cannot read properties of undefined (reading 'hash')",
    "settlement_pending",
    "duplicate_settlement",
)
"""Texts that real facilitators, libraries and nodes give after a broadcast too: words that are found in
one of them prove nothing."""


_MARKS: Final = re.compile(r"[^\w*]+")


class Unlawful(Misplaced):
    """A policy that could lose or double money. at: path of the value to blame; law: which one."""

    def __init__(self, at: Path, law: int | str, message: str) -> None:
        super().__init__(at, message)
        self.law = law
        self.message = message


class Named(Protocol):
    """A facilitator of the policy."""

    @property
    def name(self) -> str: ...


class Ruled(Judging, Protocol):
    """What of a policy must be lawful."""

    @property
    def facilitators(self) -> Sequence[Named]: ...


def refuse_unlawful(policy: Ruled) -> None:
    """Raises Unlawful at the first rule that no policy may have; also for the profiles in use."""
    for index, rule in enumerate(policy.classify.rules):
        _refuse_classify(rule, ("classify", "rules", index))
    for index, act in enumerate(policy.act.rules):
        _refuse_act(act, ("act", "rules", index))
    _refuse_action(policy.act.default, WhenClass(), ("act", "default"))
    for index, facilitator in enumerate(policy.facilitators):
        profile = policy.profile_of(facilitator.name)
        try:
            refuse_unlawful_profile(profile)
        except Unlawful as fault:
            message = f"profile {show(profile.name)}, {write_path(fault.at)}: {fault}"
            raise Unlawful(("facilitators", index, "profile"), fault.law, message) from fault


def refuse_unlawful_profile(profile: Dialect) -> None:
    """Raises Unlawful at the first rule that no profile may have; paths are those of the profile's file."""
    for index, rule in enumerate(profile.classify):
        _refuse_classify(rule, ("classify", index), edge_is_known=True)


def _refuse_classify(rule: ClassifyRule, at: Path, *, edge_is_known: bool = False) -> None:
    certain = Outcome(rule.class_) not in IN_DOUBT
    if rule.failover and not certain:
        why = f"rule {rule.name} would fail over what may have been executed; remove failover"
        raise _unlawful((*at, "failover"), 6, why)
    if not _may_settle(rule.when):
        return
    if certain:
        _refuse_certainty(rule, (*at, "when"))
        _refuse_thin_evidence(rule, (*at, "when"), edge_is_known)
    elif rule.health is Health.FAULTY and _may_time_out(rule.when):
        raise _slow_chain(rule.name, (*at, "health"))


def _refuse_certainty(rule: ClassifyRule, at: Path) -> None:
    """What speaks for a broadcast, or was lost, is never certain on settle."""
    when, calls = rule.when, f"rule {rule.name} calls it {rule.class_}"
    for transport in when.transport:
        if transport in (Transport.TIMEOUT, Transport.LOST):
            why = f"{calls}, but after {transport} the settle may have been executed"
            raise _unlawful((*at, "transport"), 1, f"{why}; remove {transport}, or {_ONLY_VERIFY}")
    if History.IN_DOUBT in when.history:
        why = f"{calls}, but an earlier attempt is in doubt and no reply can deny it; remove in_doubt"
        raise _unlawful((*at, "history"), 3, why)
    for reason in when.reason:
        if _reason_in_doubt(reason):
            why = f"{calls}, but {reason} is also said after a broadcast; remove it, or {_ONLY_VERIFY}"
            raise _unlawful((*at, "reason"), 1, why)
    for text in when.text:
        if told := _settlement_text(text):
            why = f"{calls}, but {show(text)} also stands in {show(told)}, which is said after a broadcast"
            raise _unlawful((*at, "text"), 1, f"{why}; write more of the text, or {_ONLY_VERIFY}")


def _refuse_thin_evidence(rule: ClassifyRule, at: Path, edge_is_known: bool) -> None:
    """A reason or a text is evidence; a status is where a 4xx door was shut, a page only at a known edge."""
    when = rule.when
    if when.reason or when.text or set(when.transport) == {Transport.NOT_SENT}:
        return
    calls = f"rule {rule.name} calls it {rule.class_}"
    if not when.status:
        shown = "every settle that it sees" if when.body == "any" else f"any body that is {when.body}"
        why = f"{calls}, whatever it says: {shown}"
        raise _unlawful(at, 1, f"{why}; add a reason, a text or a status, or {_ONLY_VERIFY}")
    known = edge_is_known or when.profile or when.facilitator
    for status in when.status:
        at_edge = status == EDGE_STATUS and when.body in EDGE_BODIES
        if at_edge and not known:
            why = f"{calls}, but only some facilitators have an edge that answers so; name the facilitator"
            raise _unlawful((*at, "status"), 1, f"{why} or profile")
        if not at_edge and (status == "4xx" or status in AMBIGUOUS_STATUSES or not status.startswith("4")):
            why = f"{calls}, but the status {status} does not prove that nothing was executed"
            raise _unlawful((*at, "status"), 1, f"{why}; add a reason or a text, or {_ONLY_VERIFY}")


def _refuse_act(rule: ActRule, at: Path) -> None:
    if rule.when.class_ and set(rule.when.class_) == {Outcome.SUCCESS}:
        why = f"rule {rule.name} would never be looked at; name another class"
        raise _unlawful((*at, "when", "class"), "success", why)
    _refuse_action(rule, rule.when, at)


def _refuse_action(action: Action, when: WhenClass, at: Path) -> None:
    """What must never be done about a settle in doubt, wherever the action may meet one."""
    may_doubt = not when.class_ or any(outcome in IN_DOUBT for outcome in when.class_)
    if not (may_doubt and _may_settle(when)):
        return
    name = action.name if isinstance(action, ActRule) else "default"
    in_default = f"leave it out of the default and write a rule with {_CERTAIN_CLASSES}"
    cure = in_default if name == "default" else f"add {_CERTAIN_CLASSES}, or {_ONLY_VERIFY}"
    forbidden: tuple[tuple[str, bool, int, str], ...] = (
        ("retry", action.retry is True, 6, "would send again what may have been executed"),
        ("failover", action.failover is True, 6, "would send elsewhere what may have been executed"),
        ("watch", action.watch is False, 3, "would leave a settle in doubt unwatched"),
        ("answer", action.answer == "reason", 3, "would tell the caller of a failure that is not proven"),
    )
    for key, asked, law, harm in forbidden:
        if asked:
            raise _unlawful((*at, key), law, f"rule {name} {harm}; {cure}")
    if action.circuit is Health.FAULTY and _may_time_out(when):
        raise _slow_chain(name, (*at, "circuit"))


def _slow_chain(name: str, at: Path) -> Unlawful:
    why = f"rule {name} would count a settle that takes too long against the facilitator"
    return _unlawful(at, "circuit", f"{why}; add transport: [reply, lost]")


def _unlawful(at: Path, law: int | str, why: str) -> Unlawful:
    return Unlawful(at, law, f"{LAWS[law]}: {why}")


def _may_settle(when: When) -> bool:
    return not when.operation or Operation.SETTLE in when.operation


def _may_time_out(when: When) -> bool:
    """Whether it may match where no reply came in time: nothing of a reply is asked for."""
    asks_reply = when.status or when.reason or when.body != "any"
    return not asks_reply and (not when.transport or Transport.TIMEOUT in when.transport)


def _reason_in_doubt(reason: str) -> bool:
    """A listed reason is what the list says; any other is read as the words that it is made of."""
    known = REASONS.get(reason) or ERROR_TYPES.get(reason)
    return known.settle in IN_DOUBT if known else _tells_of_doubt(reason)


def _settlement_text(glob: str) -> str:
    """A text of the time after a broadcast that these words are found in, or that they are themselves."""
    bare = _bare(glob)
    known = next(
        (text for text in _known_texts() if has_words(text, glob) or has_words(_bare(text), bare)), ""
    )
    words = glob.replace("*", " ")
    return known or (words.strip() if _tells_of_doubt(words) else "")


def _bare(text: str) -> str:
    """Without marks: `failed:` stands wherever `failed` does."""
    return " ".join(_MARKS.sub(" ", text).split())


def _tells_of_doubt(words: str) -> bool:
    return read_text(words).sign in (Sign.SENT, Sign.TIME, Sign.CATCH_ALL)


def _known_texts() -> Iterator[str]:
    yield from SETTLEMENT_TEXTS
    yield from (name for name, reason in REASONS.items() if reason.settle in IN_DOUBT)
