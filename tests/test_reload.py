"""A policy file that changes under a running guardian: in one step, or not at all."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardian.app import build_from
from guardian.errors import PolicyError
from guardian.policy import source
from guardian.policy.model import Policy
from guardian.policy.source import PolicyFile
from guardian.store.memory import MemoryStore
from tests.flow.scene import NETWORK, Caller, settled, signed_payment

POLICY = """\
version: 1
facilitators:
  - name: {name}
    url: http://{host}
networks:
  {network}: {{post_sign_delay: 0s}}
settle: {{hold: {hold}}}
"""


def policy(*, name: str = "main", host: str = "first", hold: str = "25s") -> str:
    return POLICY.format(name=name, host=host, hold=hold, network=NETWORK)


class _Looked(PolicyFile):
    """A file that counts how often somebody looked whether it changed."""

    looks = 0

    def _state(self) -> source.State:
        self.looks += 1
        return super()._state()


class Running:
    """A guardian that follows a file, before facilitators that say who they are."""

    def __init__(self, path: Path, look_every_s: float = 0.01) -> None:
        self.asked: list[str] = []
        self.closed: list[str] = []
        self.wait: asyncio.Event | None = None
        self.file = file = _Looked(path, look_every_s=look_every_s)
        facilitators = _Facilitators(self)
        self.guardian = build_from(file, file.read(), MemoryStore(), transport=facilitators, fits=_not_here)

    async def state(self) -> dict[str, Any]:
        transport = httpx.ASGITransport(self.guardian.operations)
        async with httpx.AsyncClient(transport=transport, base_url="http://ops") as http:
            return dict((await http.get("/api/policy")).json())

    async def until(self, **facts: Any) -> dict[str, Any]:
        """Once /api/policy says so; the script's limit bounds it."""
        while not facts.items() <= (state := await self.state()).items():
            await asyncio.sleep(0.01)
        return state

    async def after_a_look(self) -> None:
        """Once a look is over that began after this."""
        before = self.file.looks
        while self.file.looks < before + 2:
            await asyncio.sleep(0.01)

    async def settle(self, nonce: int) -> Caller:
        caller = Caller(signed_payment(nonce), self.guardian.parts.generation)
        await self.guardian.settle.settle(caller)
        return caller


def _not_here(policy: Policy) -> None:
    if any("here" in facilitator.url for facilitator in policy.facilitators):
        raise PolicyError("facilitators[0].url: this guardian itself")


class _Facilitators(httpx.AsyncBaseTransport):
    def __init__(self, running: Running) -> None:
        self._running = running

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/supported":
            return httpx.Response(404)
        self._running.asked.append(request.url.host)
        if self._running.wait:
            await self._running.wait.wait()
        return httpx.Response(200, content=settled().content)


def play(path: Path, script: Callable[[Running], Awaitable[None]], *, look_every_s: float = 0.01) -> None:
    async def run() -> None:
        running = Running(path, look_every_s)
        await running.guardian.start()
        try:
            async with asyncio.timeout(20):
                await script(running)
        finally:
            await running.guardian.stop()

    asyncio.run(run())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(policy())
    return path


def test_a_changed_file_comes_into_force(file: Path) -> None:
    async def script(running: Running) -> None:
        before = await running.state()
        assert (before["version"], before["refused"]) == (1, None)
        file.write_text(policy(host="second"))
        after = await running.until(version=2)
        assert after["hash"] != before["hash"]
        assert after["loadedAt"] >= before["loadedAt"]
        await running.settle(1)
        assert running.asked == ["second"]

    play(file, script)


def test_a_bad_file_is_refused_loudly_and_the_last_good_one_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(running: Running) -> None:
        file.write_text(policy().replace("25s", "25"))
        while not (refused := (await running.state())["refused"]):
            await asyncio.sleep(0.01)
        assert (refused["line"], refused["column"]) == (7, 16)
        assert "25s" in refused["message"]
        assert (await running.state())["version"] == 1
        assert (await running.settle(1)).heard["success"] is True
        page = running.guardian.parts.telemetry.metrics_page()[0].decode()
        assert "guardian_policy_refused 1.0" in page
        file.write_text(policy())
        assert (await running.until(refused=None))["version"] == 1

    with caplog.at_level(logging.ERROR):
        play(file, script)
    assert "policy refused, the one in force stays" in caplog.text


def test_a_file_that_is_gone_leaves_the_policy_in_force(file: Path) -> None:
    async def script(running: Running) -> None:
        file.unlink()
        while not (await running.state())["refused"]:
            await asyncio.sleep(0.01)
        assert (await running.settle(1)).heard["success"] is True

    play(file, script)


def test_a_secret_that_is_missing_refuses_the_whole_policy(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)

    async def script(running: Running) -> None:
        changed = policy(host="second").replace(
            "networks:", "    auth: {bearer: {env: NO_SUCH_TOKEN}}\nnetworks:"
        )
        file.write_text(changed)
        while not (refused := (await running.state())["refused"]):
            await asyncio.sleep(0.01)
        assert "NO_SUCH_TOKEN" in refused["message"]
        await running.settle(1)
        assert running.asked == ["first"]

    play(file, script)


def test_a_secret_that_is_mounted_later_is_waited_for(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster mounts the secret and the policy that names it at different times."""
    key = file.with_name("token")

    async def script(running: Running) -> None:
        auth = f"    auth: {{bearer: {{file: {key}}}}}\nnetworks:"
        file.write_text(policy(host="second").replace("networks:", auth))
        while not (await running.state())["refused"]:
            await asyncio.sleep(0.01)
        await running.after_a_look()
        key.write_text("a-token-of-some-length")
        await running.until(version=2, refused=None)
        await running.settle(1)
        assert running.asked == ["second"]

    with caplog.at_level(logging.ERROR):
        play(file, script)
    assert caplog.text.count("policy refused, the one in force stays") == 1


def test_the_symlink_swap_of_a_config_map_is_seen(tmp_path: Path) -> None:
    """Kubernetes: policy.yaml → ..data/policy.yaml, ..data → a directory with the time in its name."""

    def version(number: int, text: str) -> None:
        held = tmp_path / f"..2026_{number}"
        held.mkdir()
        (held / "policy.yaml").write_text(text)
        fresh = tmp_path / "..data_tmp"
        fresh.symlink_to(held.name)
        fresh.rename(tmp_path / "..data")

    version(1, policy())
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")

    async def script(running: Running) -> None:
        version(2, policy(host="second"))
        await running.until(version=2)

    play(tmp_path / "policy.yaml", script)


def test_a_request_under_way_keeps_the_policy_it_began_with(file: Path) -> None:
    async def script(running: Running) -> None:
        running.wait = asyncio.Event()
        waiting = asyncio.create_task(running.settle(1))
        while not running.asked:
            await asyncio.sleep(0.001)
        old = running.guardian.parts.generation
        file.write_text(policy(name="other", host="second", hold="1s"))
        await running.until(version=2)
        assert old.facilitators.named("main") is not None
        running.wait.set()
        caller = await waiting
        assert caller.heard["success"] is True
        assert running.asked == ["first"]
        await old.ended()

    play(file, script)


def test_many_reloads_under_load_lose_no_request(file: Path) -> None:
    async def script(running: Running) -> None:
        async def reloads() -> None:
            for number in range(10):
                file.write_text(policy(host=f"host{number}"))
                await running.until(version=number + 2)

        reloading = asyncio.create_task(reloads())
        nonce = 0
        while not reloading.done():
            callers = await asyncio.gather(*(running.settle(nonce + one) for one in range(20)))
            nonce += 20
            assert all(caller.heard["success"] is True for caller in callers)
        await reloading
        assert len(await running.guardian.parts.store.page(limit=1000)) == min(nonce, 1000)
        assert len(set(running.asked)) > 1

    play(file, script)


def test_a_sighup_reads_the_file_again(file: Path) -> None:
    async def script(running: Running) -> None:
        assert running.guardian.reloading
        await running.guardian.reloading.stop()  # nobody watches the file
        file.write_text(policy(host="second"))
        await running.guardian.reloading.read_again()
        assert (await running.state())["version"] == 2

    play(file, script)


def test_a_policy_that_cannot_be_read_at_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such file"):
        PolicyFile(tmp_path / "none.yaml").read()


def test_an_operators_own_profile_belongs_to_the_policy(file: Path) -> None:
    profiles = file.parent / "profiles"
    profiles.mkdir()
    before = PolicyFile(file).hash()
    (profiles / "own.yaml").write_text("version: 1\nname: own\ntitle: ours\n")
    assert PolicyFile(file).hash() != before


def test_what_is_taken_back_between_two_looks_is_out_of_force(file: Path) -> None:
    """Changed, read on SIGHUP and taken back before the next look, which finds what the last one found."""

    async def script(running: Running) -> None:
        assert running.guardian.reloading
        first = (await running.state())["hash"]
        await running.after_a_look()
        file.write_text(policy(host="second"))
        await running.guardian.reloading.read_again()
        assert (await running.state())["version"] == 2
        file.write_text(policy())
        assert (await running.until(hash=first))["version"] == 3

    play(file, script, look_every_s=0.3)


def test_a_change_that_keeps_time_and_size_is_seen(file: Path) -> None:
    """As rsync --inplace --times writes it."""

    async def script(running: Running) -> None:
        await running.after_a_look()
        stat = file.stat()
        with file.open("r+") as stream:
            stream.write(policy(host="third"))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size
        await running.until(version=2)
        await running.settle(1)
        assert running.asked == ["third"]

    play(file, script)


class _Written(PolicyFile):
    """A file that somebody writes to between any two looks at it, until all is written."""

    parts: Iterator[str] = iter(())

    def _state(self) -> source.State:
        state = super()._state()
        with self.path.open("a") as stream:
            stream.write(next(self.parts, ""))
        return state


def test_half_a_file_that_would_be_a_policy_is_not_put_in_force(file: Path) -> None:
    """What follows may be the limits."""

    async def next_change() -> None:
        written = _Written(file, look_every_s=0.01)
        written.read()
        changes = written.changes()
        file.write_text(policy(host="second"))
        written.parts = iter(["callers:\n", "  max_open: 5\n", "  max_open_all: 50\n"])
        await anext(changes)
        assert written.read().policy.callers.max_open_all == 50
        assert file.read_text().endswith("50\n")
        await changes.aclose()

    asyncio.run(next_change())


def test_a_file_that_changed_while_it_was_read_is_read_again_whatever_it_holds_then(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, reads = source.load_policy, 0

    def load_while_written(path: Path) -> Policy:
        nonlocal reads
        loaded, reads = load(path), reads + 1
        if reads <= source.READINGS:
            path.write_text(policy(host="second" if reads == source.READINGS else f"other{reads}"))
        return loaded

    async def script(running: Running) -> None:
        monkeypatch.setattr(source, "load_policy", load_while_written)
        file.write_text(policy(host="second"))
        await running.until(refused=None, version=2)
        await running.settle(1)
        assert running.asked == ["second"]

    play(file, script)
    assert reads == source.READINGS + 1


def test_a_file_that_does_not_fit_this_process_is_refused_when_it_changes_too(file: Path) -> None:
    async def script(running: Running) -> None:
        file.write_text(policy(host="here"))
        while not (refused := (await running.state())["refused"]):
            await asyncio.sleep(0.01)
        assert refused["message"] == "facilitators[0].url: this guardian itself"
        await running.settle(1)
        assert running.asked == ["first"]
        file.write_text(policy(host="second"))
        await running.until(version=2, refused=None)

    play(file, script)


def test_a_file_that_does_not_fit_this_process_is_refused_at_its_start(tmp_path: Path) -> None:
    (file := tmp_path / "policy.yaml").write_text(policy(host="here"))
    with pytest.raises(PolicyError, match="this guardian itself"):
        Running(file)
