"""One world for the whole room, with blocks of one second: starting one takes seconds."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from stage import Stage

from guardian.sandbox.node import SandboxError
from guardian.sandbox.world import World

HOLDS = {
    "patient": "settle: {hold: 8s, hold_without_hash: 20s}",
    "impatient": "settle: {hold: 1s, hold_without_hash: 2s}",
}
NO_CIRCUIT = "circuit: {failure_threshold: 1000}"
"""The stage is shared: the faults of one script must not shut the door on the next."""


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        try:
            world = stack.enter_context(World(mining=1.0, confirmation_timeout_s=1.5))
        except SandboxError as error:
            pytest.skip(f"no sandbox here: {error}")
        yield world


def _stage(world: World, *lines: str) -> Iterator[Stage]:
    policy = world.policy_text(settlement_timeout="3s", network_lines=("block_time: 1s",), lines=lines)
    with Stage(world, world.start_guardian(policy)) as stage:
        yield stage


@pytest.fixture(scope="session")
def patient_stage(world: World) -> Iterator[Stage]:
    yield from _stage(world, HOLDS["patient"], NO_CIRCUIT)


@pytest.fixture(scope="session")
def impatient_stage(world: World) -> Iterator[Stage]:
    yield from _stage(world, HOLDS["impatient"])


@pytest.fixture
def patient(patient_stage: Stage) -> Iterator[Stage]:
    """A guardian that holds its callers until the outcome is known."""
    yield from _well_again(patient_stage)


@pytest.fixture
def impatient(impatient_stage: Stage) -> Iterator[Stage]:
    """A guardian whose holds are over before a withheld block comes."""
    yield from _well_again(impatient_stage)


def _well_again(stage: Stage) -> Iterator[Stage]:
    yield stage
    if not stage.facilitator.process.alive:
        stage.facilitator.start()
    for operation in ("settle", "verify"):
        stage.facilitator.control("ok", operation=operation)
    stage.facilitator.control("release")
    stage.world.chain.set_interval(1)
