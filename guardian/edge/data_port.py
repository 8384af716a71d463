"""The data port: routes of the policy first, then everything of the facilitators. Only dispatches."""

from starlette.types import ASGIApp, Receive, Scope, Send

from guardian.edge.agent_plane import AgentPlane, first_part
from guardian.flow.parts import Parts

OWN = ("verify", "settle", "supported", "payments", "facilitators")
"""What the facilitator plane answers also where the policy names no facilitator; no route has these names."""

NO_WEBSOCKETS = 1003
"""RFC 6455 §7.4.1; before the handshake it makes a server answer 403."""


class DataPort:
    """ASGI application of the data port."""

    def __init__(self, parts: Parts, agents: AgentPlane, facilitators: ASGIApp) -> None:
        self._parts = parts
        self._agents = agents
        self._facilitators = facilitators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # of a host application's server; our own knows none
            await receive()
            return await send({"type": "websocket.close", "code": NO_WEBSOCKETS})
        policy = self._parts.policy
        if not policy.routes:
            await self._facilitators(scope, receive, send)
        elif self._agents.leads(scope) or not (policy.facilitators or first_part(scope) in OWN):
            await self._agents(scope, receive, send)
        else:
            await self._facilitators(scope, receive, send)
