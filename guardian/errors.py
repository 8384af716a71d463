"""One exception tree, a class per decision that a caller can take.

    GuardianError
    ├── BadPayment          the request body is not a payment we can read: field, found, cure
    ├── PolicyError         the policy file cannot be used: file, line, column, cure
    ├── StoreUnavailable    no record can be written or read: nothing may be sent (law 10)
    ├── StaleRecord         somebody else moved the record first: read it again
    ├── IllegalMove         the state tables have no such move: a fault of ours
    ├── NotSent             the facilitator provably received nothing: may be tried again
    ├── ReplyLost           the first byte may have left and no reply came: in doubt
    ├── ChainUnavailable    no RPC endpoint gave a usable answer: proves nothing
    ├── CannotClose         an orphan cannot be taken off the queue like this: why, and the cure
    ├── CannotDecide        an approval or the switch of spending cannot be changed like this: why
    └── SpendingDenied      the policy refuses an agent's payment: rule, limit, why; nothing was sent

Foreign exceptions are translated where they enter, `raise … from exc`. No I/O here.
"""


class GuardianError(Exception):
    """Root of everything the guardian raises on purpose."""


class BadPayment(GuardianError):
    """The request body cannot be read as an x402 payment.

    field: dotted path inside the body; found: what stood there, shortened; cure: what to send.
    """

    def __init__(self, field: str, found: str, cure: str) -> None:
        super().__init__(f"{field}: found {found}; {cure}")
        self.field = field
        self.found = found
        self.cure = cure


class PolicyError(GuardianError):
    """The policy cannot be used. Lines and columns count from 1; 0 means unknown."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0) -> None:
        where = f"{file}:{line}:{column}: " if line else f"{file}: " if file else ""
        super().__init__(where + message)
        self.message = message
        self.file = file
        self.line = line
        self.column = column


class StoreUnavailable(GuardianError):
    """The durable record cannot be written or read; no settle may be sent."""


class StaleRecord(GuardianError):
    """A compare-and-set lost: the record has moved since it was read."""


class IllegalMove(GuardianError):
    """The state tables know no such move."""


class NotSent(GuardianError):
    """The request provably never reached the facilitator."""


class ReplyLost(GuardianError):
    """The request may have been executed and its reply did not arrive whole.

    timed_out: the time for it ran out; else the connection broke or the reply made no sense.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class ChainUnavailable(GuardianError):
    """No RPC endpoint gave a usable answer in time."""


class CannotClose(GuardianError):
    """An orphan cannot be refunded or written off like this."""


class CannotDecide(GuardianError):
    """An approval cannot be given or denied, or spending not stopped, like this."""


class SpendingDenied(GuardianError):
    """The spending policy refuses a payment; nothing was sent.

    rule, limit: its name, and the key of it that refuses; why: in words; approval: the id of the approval
    that would let it pass, or empty; fault: what is wrong with the payment itself, where something is.
    """

    def __init__(
        self, rule: str, limit: str, why: str, approval: str = "", fault: BadPayment | None = None
    ) -> None:
        super().__init__(f"{rule}: {limit}: {why}")
        self.rule = rule
        self.limit = limit
        self.why = why
        self.approval = approval
        self.fault = fault
