"""What the rooms below call back: circuits, facilitators, tokens and the outbox know no telemetry, no policy.

Made before the parts, because those are made with them, and bound to them afterwards.
"""

from guardian.chain.rpc import Endpoints
from guardian.facilitator.circuit import CircuitKey, CircuitSettings
from guardian.facilitator.client import Facilitator, RawHeaders
from guardian.flow.ask import meant_for
from guardian.flow.parts import Parts, log
from guardian.flow.replicas import Replicas
from guardian.flow.webhooks import Webhooks
from guardian.telemetry import Telemetry
from guardian.wire.names import Network


class Hooks:
    """Of one guardian. parts, replicas, webhooks: set once they are there, before anything is called."""

    parts: Parts
    replicas: Replicas
    webhooks: Webhooks

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._imposing = False

    # -- circuits

    def circuit_settings(self, key: CircuitKey) -> CircuitSettings:
        """Those in force."""
        chosen = self.parts.policy.in_force(key.network, key.facilitator).circuit
        return CircuitSettings(chosen.failure_threshold, chosen.recovery_time_s, chosen.half_open_trials)

    def circuit_changed(self, key: CircuitKey, state: str) -> None:
        """Count, log and tell it to the other replicas; webhooks hear of it from the one that has seen it."""
        self._telemetry.circuit_changed(key.facilitator, key.network, key.operation, state)
        log.warning("circuit %s", state, extra=key._asdict())
        self.replicas.tell_circuit(key, state)
        if not self._imposing:
            self.webhooks.circuit_changed(key, state)

    def impose(self, key: CircuitKey, state: str) -> None:
        """Take over what another replica has seen of a facilitator."""
        self._imposing = True
        try:
            self.parts.circuits.impose(key, state)
        finally:
            self._imposing = False

    # -- facilitators, tokens, the outbox

    def headers_for(self, facilitator: Facilitator, headers: RawHeaders) -> RawHeaders:
        """What a question for /supported is sent with."""
        generation = self.parts.generation
        own = meant_for(facilitator, generation, headers)
        return generation.headers_for(facilitator, "GET", "/supported", own)

    def silent(self, facilitator: str, why: str) -> None:
        """It does not say what it supports."""
        log.warning(
            "a facilitator does not answer /supported", extra={"facilitator": facilitator, "why": why}
        )

    def endpoints(self, network: Network) -> Endpoints | None:
        """Those of a network that is watched."""
        watcher = self.parts.watchers.get(network)
        return watcher.endpoints if watcher else None

    def full(self, webhook: str) -> None:
        """An event was not kept."""
        self._telemetry.webhook(webhook, "full")
