"""What a code says: `sponsor_balance_low`, `RATE_LIMIT:EXCEEDS_DAILY_LIMIT`, `policy:unknown_program`. Pure.

A code is a programmer's word for a condition that was checked, and is read by its words. For what may be
short (a quota, money for gas) the vocabulary is closed: one word that is not in it, such as `tx`, `retries`
or the name of a node's provider, and the code is not read. A refusal may be of anything, so its nouns are
open, and a word of a later step stops it. What this does not read stays in doubt.
"""

import re
from functools import lru_cache

from guardian.settlement.texts.before import GAS_MONEY
from guardian.settlement.texts.general import LATER, NAMES
from guardian.settlement.texts.reading import plain, read_text
from guardian.settlement.texts.refused import BALANCE_CURE, CLOCK_CURE
from guardian.settlement.texts.rule import Sign, TextRule, text_rule

MAX_CODE = 80
"""Characters; longer ones are sentences."""

_NEVER = r"(?!)"
QUOTA = text_rule("quota", Sign.BEFORE, _NEVER)
STOPPED = text_rule("not_now", Sign.BEFORE, _NEVER)
CAP = text_rule("cap", Sign.REFUSED, _NEVER, payload=True)
BALANCE = text_rule("balance", Sign.REFUSED, _NEVER, payload=True, prior=True, cure=BALANCE_CURE)
EXPIRED = text_rule("expired", Sign.REFUSED, _NEVER, payload=True, prior=True, cure=CLOCK_CURE)
PARTY = text_rule("party", Sign.REFUSED, _NEVER, payload=True, failover=True)
CONFLICT = text_rule("conflict", Sign.REFUSED, _NEVER, payload=True, prior=True)
REFUSED = text_rule("code", Sign.REFUSED, _NEVER, payload=True)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NETWORKS = _words(
    "exact upto batch deferred evm svm tvm avm ton tron near sui aptos stellar solana hedera xrpl canton "
    "cardano algorand stacks casper base polygon avalanche arbitrum ethereum"
)
_FILLERS = _words("is are has the a your this for of per in too err error code global requests") | _NETWORKS
_SETTLES = _words("settle settles settlement settlements verify verification")

_PERIODS = _words("daily hourly weekly monthly day hour week month minute")
_SPONSORS = _words(
    "facilitator relayer operator sponsor sponsors sponsored sponsorship signer settler paymaster"
)
_CLIENTS = _words("payer payto payee seller merchant tenant client customer user buyer ip")
_PLANS = _words("free tier plan trial subcent concurrency concurrent")
_COUNTED = _words(
    "quota tier rate ratelimit limit limits cap caps ceiling budget capacity credits pool sponsorship many"
)
_USED_UP = _words("exceeded exceeds exhausted reached limited depleted throttled many")
_CAPPED = _words("gas fee fees")
_CAPS = _words("cap ceiling max maximum")
_WHOSE = _PERIODS | _SPONSORS | _CLIENTS | _PLANS
_TRAFFIC = _FILLERS | _SETTLES | _WHOSE | _COUNTED | _USED_UP | _CAPPED | _CAPS

_PAYS_GAS = _words(
    "facilitator relayer operator sponsor sponsorship signer settler paymaster delegation feepayer"
)
_PAYERS = _words("payer client buyer sender user customer")
_MONEY = _words("gas balance funds funding money native lamports eth sol")
_SHORT = _words("low insufficient empty depleted below out unfunded underfunded")
_PURSE = (
    _PAYS_GAS | _PAYERS | _MONEY | _SHORT | _FILLERS | _words("fee account wallet hot token minimum reserve")
)

_STOPPED = _words("paused maintenance draining")
_STOPS = _STOPPED | _FILLERS | _words("facilitator service settlements sponsor relayer operator under mode")

_PARTIES = _words("seller merchant tenant vendor customer client product plan subscription")
_ABSENT = _words("found registered active unknown inactive suspended disabled")
_PLACES = _PARTIES | _words("payer payto wallet address recipient geo country region")
_BLOCKED = _words("blocked banned restricted")
_OFF = _words("disabled enabled supported only")
_MODES = _OFF | _words("is are not settle settlement settlements verify mode")
_GRANTS = _words("auth authorization permit voucher ttl quote")

_ASKED = _words("network scheme version payload requirements")
_WRONG = _words("mismatch invalid unsupported missing malformed")
_NOT_ASKED_RIGHT = _ASKED | _WRONG | _NETWORKS | _words("settle payment x402")

_PLAIN = (_words("address not registered"),)
_CONFLICTS = (_words("payment identifier conflict"), _words("idempotency key conflict"))
_NOT_ENOUGH = re.compile(r"\bnot enough\b")
_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_\-:.][A-Za-z0-9]+)+")
_PHRASE = re.compile(r"[A-Za-z][A-Za-z0-9_\-:. ]*")
_REFUSES = re.compile(
    r"\bnot (?:supported|allowed|permitted|accepted|eligible|(?:white|allow) ?listed)\b|"
    r"\b(?:unsupported|disallowed|forbidden|prohibited|unreasonable)\b|"
    r"^policy \w"
)
_REQUEST_PARTS = re.compile(
    r"^policy (?:max )?(?:unknown )?(?:program\b|instructions?\b)?|\b(?:address )?lookup tables?\b|"
    r"\bcompute units?\b"
)
_LATER_TOO = re.compile(
    r"\b(?:rpc|provider|bundler|backend|fail|error|exception|unknown|state|replac|drop|evict|unconf)"
)


@lru_cache(maxsize=1024)
def read_code(text: str) -> TextRule | None:
    """The rule that a code stands for; None where the grammar does not know it."""
    if len(text) > MAX_CODE or not _PHRASE.fullmatch(text):
        return None
    said = _NOT_ENOUGH.sub("insufficient", " ".join(re.split(r"[^a-z0-9]+", plain(text)))).strip()
    words = frozenset(said.split())
    if words <= _TRAFFIC and (counted := _counted(words, said)):
        return counted
    if words <= _PURSE and words & _SHORT:
        return _short_of_money(words)
    if words <= _STOPS and words & _STOPPED and len(words) > 1:
        return STOPPED
    if words in _CONFLICTS:
        return CONFLICT
    if words in _PLAIN or (words <= _NOT_ASKED_RIGHT and words & _ASKED and words & _WRONG):
        return REFUSED
    if read_text(text).sign is not Sign.NONE:
        return None  # `texts/` reads it, or sees a sign in it
    if _is_of_party(words):
        return PARTY
    if not _SHAPE.fullmatch(text):
        return None
    if words & _GRANTS and "expired" in words and words <= _GRANTS | _NETWORKS | {"expired"}:
        return EXPIRED
    return REFUSED if _refuses(said) else None


def _counted(words: frozenset[str], said: str) -> TextRule | None:
    """A quota used up, or a cap on one thing exceeded. Who counts, or for how long, must be said: a node
    counts too, and a chain knows limits and budgets of gas."""
    rate_limit = "rate" in words and words & {"limit", "limits", "limited"}
    counted = words & _COUNTED and "gas limit" not in said
    if not rate_limit and not words & _USED_UP:
        return None
    if words & _WHOSE:
        return QUOTA if rate_limit or counted else None
    if words & _CAPPED:
        return CAP if words & _CAPS else None
    return QUOTA if words & _SETTLES and (rate_limit or counted) else None


def _is_of_party(words: frozenset[str]) -> bool:
    """Whether somebody is not known or not served here, or nothing is settled here at all."""
    if words & _PARTIES and words & _ABSENT and words <= _PARTIES | _ABSENT | _FILLERS | {"not"}:
        return True
    if words & _PLACES and words & _BLOCKED and words <= _PLACES | _BLOCKED | _FILLERS:
        return True
    off = "disabled" in words or {"verify", "only"} <= words or ("not" in words and words & _OFF)
    return bool(off and words <= _MODES and words & _words("settle settlement settlements only"))


def _short_of_money(words: frozenset[str]) -> TextRule | None:
    """Whose money is short: the payer's, or that of whoever pays for gas."""
    if not (words & _MONEY or words & {"unfunded", "underfunded"}):
        return None
    if words & _PAYS_GAS or {"fee", "payer"} <= words:
        return GAS_MONEY
    return BALANCE if words & _PAYERS and not words & {"gas", "out", "lamports", "native"} else None


def _refuses(said: str) -> bool:
    """A refusal of whatever it is, without a word of a step that comes later."""
    rest = NAMES.sub(" ", _REQUEST_PARTS.sub(" ", said))
    later = LATER.search(rest) or _LATER_TOO.search(rest)
    return bool(_REFUSES.search(said)) and not later
