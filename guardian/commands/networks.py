"""What the commands take for `--network`: a typing error must not show what nobody asked for."""

from guardian.errors import GuardianError
from guardian.policy.types import nearest
from guardian.wire.networks import V1_NAMES, network_of


def read_network(name: str) -> str:
    """The CAIP-2 id that the user means. Raises GuardianError for what is neither an id nor a v1 name."""
    id = network_of(name)
    if id is None or ":" not in id:
        said = f"{name[:60]!r} is not a network; write a CAIP-2 id such as eip155:8453"
        raise GuardianError(f"--network: {said}, or a v1 name: {nearest(name, V1_NAMES)}")
    return id
