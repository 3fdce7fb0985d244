"""An export of a seeded sandbox, the same events as plain rows, and files made of rows by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.files.database import EventDatabase, open_data
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.core.model import Window
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from planted.files import NOW, write_rows

END = datetime(2026, 11, 20, tzinfo=UTC)
GOLDEN = Path(__file__).with_name("golden")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export left, and what it was made of."""

    folder: Path
    state: Path
    world: World
    account_id: str
    end: datetime = END


def at(text: str) -> datetime:
    """Return a UTC moment."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(since: str, before: str) -> Window:
    return Window(at(since), at(before))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export a sandbox of three weeks over HTTP into Parquet, facets recovered."""
    folder = tmp_path_factory.mktemp("exported")
    options = SandboxOptions(events=2_000, span_seconds=21 * 86_400.0, end_at=END, seed=11)
    world = World(options, NOW.timestamp)
    with Sandbox(world) as sandbox:
        settings = Settings(
            sink=("parquet",),
            since=datetime.fromtimestamp(world.since, UTC),
            state_dir=folder / "state",
            sources={"auditlogs": {"server_url": sandbox.mcp_url, "budget_calls": 0}},
            sinks={"parquet": {"path": str(folder / "parquet")}},
        )
        environ = {"CLOUDFLARE_API_TOKEN": world.tokens["user"]}
        assembly = compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: NOW)
        report = export(assembly, world.accounts[0].id)
    assert (report.exit_code, report.gaps, report.events) == (0, (), 2_000)
    return Exported(folder / "parquet", folder / "state", world, world.accounts[0].id)


# -- the same events as rows of the schema, made from the sandbox's truth by other means than the program's ------


@pytest.fixture(scope="session")
def recovered_rows(exported: Exported) -> list[Row]:
    """What an export of the six-field source knows when all facets are rebuilt."""
    pairs = zip(exported.world.rows(exported.account_id), exported.world.records(exported.account_id), strict=True)
    return [_recovered(row, record) for row, record in pairs]


@pytest.fixture(scope="session")
def trimmed_rows(exported: Exported) -> list[Row]:
    """What the six fields alone say."""
    return [_storable(_trimmed(row)) for row in exported.world.rows(exported.account_id)]


@pytest.fixture(scope="session")
def whole_rows(exported: Exported) -> list[Row]:
    """What whole records say."""
    return [_storable(_whole(record)) for record in exported.world.records(exported.account_id)]


def _storable(row: Row) -> Row:
    """Return the row without halves of surrogate pairs, which no file can hold."""
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _trimmed(row: Mapping[str, Any]) -> Row:
    return {
        "event_time": datetime.fromisoformat(row["time"]),
        "action_description": row.get("description") or None,
        "actor_email": row.get("actor_email"),
        "actor_token_name": row.get("actor_token_name"),
        "resource_product": row.get("product") or None,
        "resource_type": row.get("type") or None,
        "fidelity": "trimmed",
    }


def _recovered(row: Mapping[str, Any], record: Mapping[str, Any]) -> Row:
    actor, action = record.get("actor") or {}, record["action"]
    facets = {
        "action_type": action.get("type"),
        "action_result": action.get("result"),
        "actor_context": actor.get("context"),
        "actor_type": actor.get("type"),
        "fidelity": "recovered",
    }
    return _trimmed(row) | facets


def _whole(record: Mapping[str, Any]) -> Row:
    actor, action, thing = (record.get(name) or {} for name in ("actor", "action", "resource"))
    token = actor.get("token") or {"id": actor.get("token_id"), "name": actor.get("token_name")}
    return {
        "event_time": datetime.fromisoformat(action["time"]),
        "event_id": record["id"],
        "action_description": action.get("description"),
        "action_type": action.get("type"),
        "action_result": action.get("result"),
        "actor_context": actor.get("context"),
        "actor_email": actor.get("email"),
        "actor_id": actor.get("id"),
        "actor_ip_address": actor.get("ip_address"),
        "actor_type": actor.get("type"),
        "actor_token_id": token.get("id"),
        "actor_token_name": token.get("name"),
        "resource_id": thing.get("id"),
        "resource_product": thing.get("product"),
        "resource_type": thing.get("type"),
        "zone_name": (record.get("zone") or {}).get("name"),
        "fidelity": "full",
    }


# -- files -----------------------------------------------------------------------------------------


Store = Callable[..., Path]


@pytest.fixture(scope="session")
def store_rows() -> Store:
    return write_rows


@pytest.fixture
def opened() -> Iterator[Callable[..., EventDatabase]]:
    """Open folders of exported files; they are closed at the end."""
    data: list[EventDatabase] = []

    def open_folder(folder: Path | str, *args: Any, **kwargs: Any) -> EventDatabase:
        data.append(open_data(open_location(str(folder)), *args, **kwargs))
        return data[-1]

    yield open_folder
    for one in data:
        one.__exit__()


@pytest.fixture(scope="session")
def golden() -> Callable[[str, str], None]:
    """Compare a text with the golden file; `CFAUDIT_GOLDEN=write` writes it instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("CFAUDIT_GOLDEN") == "write":
            path.write_text(text)
        assert text == path.read_text(), f"'{path}' differs; see what changed with CFAUDIT_GOLDEN=write and git diff"

    return compare
