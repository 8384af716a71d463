"""The `tests:` of a policy: given this reply, this must follow. Models, and running them. No I/O."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from guardian.policy.judge import judge
from guardian.policy.rules import Alert, Heard, History, Transport
from guardian.policy.section import Section
from guardian.policy.types import Flag, Name, NetworkName, Sentence, Written, whole
from guardian.settlement.verdict import Health, Operation, Outcome

if TYPE_CHECKING:
    from guardian.policy.model import Policy

HttpStatus = Annotated[int, Field(ge=100, le=599), BeforeValidator(whole)]


class Given(Section):
    """One attempt as a facilitator might answer it."""

    operation: Operation = Field(
        default=Operation.SETTLE, description="What was asked: `settle` or `verify`."
    )
    facilitator: Annotated[Name | None, Written] = Field(
        default=None,
        description="Who was asked, for its profile and rules. Default: the first of the policy.",
    )
    network: NetworkName = Field(default="eip155:8453", description="The network of the payment.")
    status: Annotated[HttpStatus | None, Written] = Field(
        default=None, description="HTTP status of the reply. Default: 200 where a reply came."
    )
    body: str = Field(default="", max_length=65536, description="Body of the reply, as text.")
    transport: Transport = Field(default=Transport.REPLY, description="How far the attempt got.")
    history: History = Field(default=History.FIRST, description="What came before it.")
    detail: Sentence = Field(default="", description="The transport's own words where no reply came.")


class Expect(Section):
    """What must follow; only what is written is compared."""

    class_: Annotated[Outcome | None, Written] = Field(default=None, description="The class of the reply.")
    rule: Annotated[str | None, Written] = Field(
        default=None, max_length=200, description="The rule that decided."
    )
    reason: Annotated[str | None, Written] = Field(
        default=None, max_length=200, description="The reason told."
    )
    retry: Annotated[Flag | None, Written] = Field(
        default=None, description="The same facilitator may be asked again."
    )
    failover: Annotated[Flag | None, Written] = Field(
        default=None, description="Another facilitator may be asked."
    )
    watch: Annotated[Flag | None, Written] = Field(default=None, description="The chain is asked.")
    answer: Annotated[Literal["reason", "pending"] | None, Written] = Field(
        default=None, description="What the caller is told."
    )
    circuit: Annotated[Health | None, Written] = Field(
        default=None, description="What it says about the facilitator's health."
    )
    alert: Annotated[Alert | None, Written] = Field(default=None, description="Who is told.")


class Case(Section):
    """One test."""

    name: Sentence = Field(description="What it holds, in words.")
    given: Given = Field(description="The reply.")
    expect: Expect = Field(description="What must follow.")


@dataclass(frozen=True, slots=True)
class Miss:
    """One expectation that does not hold. index: of the test; key: of `expect`."""

    index: int
    name: str
    key: str
    expected: str
    found: str


def run_cases(policy: "Policy") -> list[Miss]:
    """Every expectation of the policy's tests that does not hold."""
    missed: list[Miss] = []
    for index, case in enumerate(policy.tests):
        verdict = judge(policy, heard(policy, case.given)).verdict
        found = {
            "class_": verdict.outcome,
            "circuit": verdict.health,
            **{key: getattr(verdict, key) for key in _SAME},
        }
        for key in Expect.model_fields:
            if key in case.expect.model_fields_set and (wanted := getattr(case.expect, key)) != found[key]:
                missed.append(Miss(index, case.name, key, _written(wanted), _written(found[key])))
    return missed


_SAME = ("rule", "reason", "retry", "failover", "watch", "answer", "alert")


def heard(policy: "Policy", given: Given) -> Heard:
    """The attempt that a test describes."""
    facilitator = given.facilitator or next((one.name for one in policy.facilitators), "")
    replied = given.transport is Transport.REPLY
    return Heard(
        operation=given.operation,
        facilitator=facilitator,
        network=given.network,
        status=(given.status or 200) if replied else 0,
        body=given.body.encode("utf-8", "surrogatepass") if replied else b"",
        transport=given.transport,
        history=given.history,
        detail=given.detail,
    )


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or "nothing"
