"""What libraries put round the words that count: taken out before a text is read. Pure data."""

import re

# "Failed to send" is no sign of a broadcast where the step before it is named as the cause.
NOT_SENT = re.compile(
    r"\b(?:failed|failure|unable|could not|cannot|error) (?:to )?(?:send|sending|submit|submitting|"
    r"broadcast|broadcasting) (?:the |a )?(?:raw )?(?:transaction|tx) ?:|\bsend transaction error:|"
    r"\bcatch the send transaction error and call get logs\b|"
    r"\b(?:broadcast|submission|submit|send) failed ?:"
)
FAILED = re.compile(r"\b(?:transaction|tx|txn) failed ?:")
# What denies a broadcast outright tells of none; the rest of the text must say by itself what happened.
# Nor does the address of a manual.
_DENIED = re.compile(
    r"https?://(?:errors\.pydantic\.dev|tools\.ietf\.org|datatracker\.ietf\.org)[^ |]{0,120}|"
    r"\bnothing (?:was|has been) (?:submitted|sent|broadcast)(?: and no funds (?:were |"
    r"have )?moved)?(?=[.;!|]|$)|"
    # a key of the request: of an authorization, a nonce or a payment the same words tell of a settlement
    r"\bidentifier (?:was |is |has )?already (?:been )?used (?:for|with|by) (?:a |an )?(?:another|different|"
    r"other) (?:request(?: body)?|payload|body)\b"
)

DECLARATION = re.compile(r"\bfunction:? [\w ]{1,80}\([^()]{0,600}\)")  # names every parameter: validAfter …

# viem explains what a lack of gas money is, in words of sending and executing.
_GAS_EXPLAINED = re.compile(
    r"\bthis error could arise when the account does not have enough funds to: .{0,400}?\bto send to the "
    r"recipient\b"
)
# What web3.js says when the node refuses a transaction in its preflight, with whatever in front: that call
# broadcast nothing. A transaction that the node knows already was sent by an earlier one.
# Without its logs only its own sentence is taken out: what follows may tell of another attempt.
_PREFLIGHT = re.compile(
    r"(?:\b(?:transaction|settlement|tx|payment) (?:send |sending |submission )?(?:failed|error): |"
    r"\bfailed to (?:send|submit|execute|settle) (?:(?:the|a|raw|signed|sponsored|solana|versioned|payment|"
    r"settlement|transfer|transaction|"
    r"tx) ?){1,4}: )*\bsimulation failed\. message: transaction simulation failed: ((?:error|"
    r"blockhash not found|attempt to|"
    r"insufficient)[^|.;]{0,300})(\.{1,2} logs: \[(?:(?!simulation failed\.)[^|]){0,6000}?\]\. catch the "
    r"send ?transaction ?error and call get ?logs\(\) on it for full details)?"
)
_FROM_BEFORE = re.compile(r"\balready\b|\bbeen processed\b")
TOKENS_SHORT = re.compile(r"\berror: insufficient funds\b|\bcustom program error: 0x1\b|\bcustom ?: ?1\b")
_MUST_CONTAIN = re.compile(
    r"\bpayload must (?:contain|include|have) (?!.{0,160}\b(?:sent|submitted|broadcast|pending|"
    r"confirmed)\b)[\w ,()+/]{1,160}(?= ?\||\.?$)"
)
LONG_HEX = re.compile(r"\b0[xX][0-9a-fA-F]{16,}")


def without_dialect(words: str) -> str:
    """Plain text without what its library says every time; looked for only where it can be."""
    words = _DENIED.sub(" ", words)
    if "payload must " in words:
        words = _MUST_CONTAIN.sub("payload must contain fields", words)
    if "enough funds to: " in words:
        words = _GAS_EXPLAINED.sub(" ", words)
    return _PREFLIGHT.sub(_preflight, words) if "simulation failed. message: " in words else words


def _preflight(found: re.Match[str]) -> str:
    cause = found.group(1) + (found.group(2) or "")
    if _FROM_BEFORE.search(cause):
        return found.group()
    return f" transaction simulation failed: {'tokens short' if TOKENS_SHORT.search(cause) else 'error'} "
