"""Imports go down: which room may import which, and which room alone knows a package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "guardian"
FLOORS = (
    {"errors"},
    {"wire"},
    {"settlement", "settings", "logs", "series"},
    {"policy", "exporting"},
    {"instruments", "spans"},
    {"telemetry"},
    {"facilitator", "upstream", "chain", "store"},
    {"flow"},
    {"edge"},
    {"reload", "hooks"},
    {"app", "listener"},
    {"serve", "sandbox"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# They take callables and know no telemetry, no settings.
HOOKS_ONLY = {"facilitator", "upstream", "chain", "store"}
UNKNOWN_TO_THEM = {"telemetry", "instruments", "spans", "exporting", "series", "settings"}
KNOWN_BY = {
    "httpx": {"facilitator"},
    "pybreaker": {"facilitator"},
    "tenacity": {"facilitator"},
    "jwt": {"facilitator"},
    "cryptography": {"facilitator", "flow"},
    "pyreqwest": {"facilitator"},
    "web3": {"chain"},
    "sqlite3": {"store"},
    "redis": {"store"},
    "opentelemetry": {"telemetry", "exporting", "instruments", "spans"},
    "prometheus_client": {"telemetry", "exporting"},
    "starlette": {"edge"},
    "ruamel": {"policy"},
    "pydantic": {"policy"},
    "uvicorn": {"serve", "listener"},
    "typer": {"cli", "commands"},
    "rich": {"commands"},
    "x402": set[str](),
}
TYPES_ONLY = {
    ("app", "starlette"),
    ("app", "httpx"),
    ("serve", "starlette"),
}  # the wiring names what it hands on
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def imports(path: Path) -> Iterator[list[str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [[node.module or "", alias.name] for alias in node.names]
            yield from (".".join(name).split(".") for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for package, *names in imports(path):
        if package == "guardian" and names and names[0] in FLOOR and names[0] != room:
            assert FLOOR[names[0]] < FLOOR[room], f"{room} imports {names[0]}"
            assert room not in HOOKS_ONLY or names[0] not in UNKNOWN_TO_THEM
        # The sandbox plays the world outside: the chain, the facilitator, the client.
        if room != "sandbox" and package in KNOWN_BY and (room, package) not in TYPES_ONLY:
            assert room in KNOWN_BY[package], f"{room} knows {package}"


def test_every_room_has_a_floor() -> None:
    assert {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} <= set(FLOOR)
