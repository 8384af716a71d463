"""Who is told of what becomes of payments: `webhooks:`. Models only, no I/O.

The secret never stands in the policy: it names an environment variable or a file. flow/webhooks.py reads it,
signs and sends.
"""

from typing import Annotated

from pydantic import Field, field_validator

from guardian.policy.auth import Place
from guardian.policy.section import Section
from guardian.policy.types import Count, Duration, Name
from guardian.policy.urls import FacilitatorUrl
from guardian.settlement.notice import Kind


class WebhookPolicy(Section):
    """One receiver of events, signed as standardwebhooks.com says."""

    name: Name = Field(description="Its name in commands, metrics and the log.")
    url: FacilitatorUrl = Field(
        description="Where events are posted to: http or https, without credentials and without query. "
        "Redirects are not followed."
    )
    events: Annotated[tuple[Kind, ...], Field(max_length=len(Kind))] = Field(
        description="What it is told of."
    )
    secret: Place = Field(
        description="Where the secret stands that events are signed with: `whsec_` and base64 of 24 to 64 "
        "bytes. While one is replaced, several with blanks between, each of which signs."
    )
    timeout_s: Duration = Field(default=10.0, description="How long it may take to answer.")
    attempts: Count = Field(
        default=15,
        description="How often an event is sent before it is laid aside. The pauses grow from 5 s to 1 h, so "
        "that 15 attempts take some 6 hours.",
    )

    @field_validator("events")
    @classmethod
    def _once(cls, events: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not events:
            raise ValueError("no event; name one at least, or leave the webhook out")
        if twice := next((one for one in events if events.count(one) > 1), None):
            raise ValueError(f"{twice} stands here twice; leave one out")
        return events
