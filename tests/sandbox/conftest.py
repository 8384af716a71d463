"""One world for the whole room: starting one takes seconds."""

from collections.abc import Iterator

import pytest

from guardian.sandbox.world import RunningFacilitator, World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World(mining="auto", confirmation_timeout_s=5) as world:
        yield world


@pytest.fixture
def facilitator(world: World) -> Iterator[RunningFacilitator]:
    """The world's facilitator, well again afterwards."""
    yield world.facilitators[0]
    world.facilitators[0].control("ok")
