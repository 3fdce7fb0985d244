"""No plain value survives anywhere: files, staged and quarantined batches, checkpoints, manifests, logs."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import SinkError
from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.app.transforms import transforms_of
from cfaudit_export.core.identity_key import new_identity_key
from cfaudit_export.core.model import RunReport
from cfaudit_export.errors import ExitCode
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import IdentitySettings, Settings
from cfaudit_sandbox import DRIFTS

KEYS = f'[[key]]\nid = 1\nfrom = 2020-01-01T00:00:00Z\nsecret = "{base64.b64encode(bytes(range(32))).decode()}"\n'


def private(folder: Path) -> dict[str, Any]:
    """Return settings that redact, with keys in a folder that is not searched."""
    folder.mkdir(exist_ok=True)
    keys, identity = folder / "keys.toml", folder / "identity.key"
    if not keys.exists():
        keys.write_text(KEYS)
        keys.chmod(0o600)
        new_identity_key(identity)
    return {
        "transform": ("redact",),
        "transforms": {"redact": {"preset": "pseudonyms", "keys_file": str(keys)}},
        "identity": IdentitySettings(identity),
    }


def run(rig: Any, source: str, root: Path | None = None, **more: Any) -> RunReport:
    root = root or rig.root
    urls = {"auditlogs": rig.sandbox.mcp_url, "codemode": rig.sandbox.codemode_url}
    known = {"budget_calls": 0, "retry_seconds": 1.0}
    given = {
        "sink": ("parquet",),
        "sinks": {"parquet": {"path": str(root / "out")}},
        "sources": {name: {"server_url": url, **known} for name, url in urls.items()},
        "recover": {"mode": "all" if source == "auditlogs" else "off"},
        "settle_lag": timedelta(0),
        **more,
    }
    settings = Settings(source=source, state_dir=root, **given)
    environ = {"CLOUDFLARE_API_TOKEN": rig.world.tokens["account"]}
    assembly = compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: rig.now)
    return export(assembly, rig.stream.account_id)


def names_of(rig: Any) -> set[str]:
    """Return each e-mail address, address of a machine, and name of a token in the world's records."""
    found: set[str] = set()
    for record in rig.world.records(rig.stream.account_id):
        actor = record.get("actor") or {}
        token = actor.get("token") if isinstance(actor.get("token"), dict) else {}
        found |= {actor.get("email"), actor.get("ip_address"), actor.get("token_name"), token.get("name")}
    return {one for one in found if isinstance(one, str) and len(one) > 3 and one.isprintable()}


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield all that is on the disk as text: files as they are, and tables decoded."""
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        yield str(path), path.read_bytes().decode("utf-8", "replace")
        table = None
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
        elif path.suffix == ".arrow":
            with pa.memory_map(str(path)) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
        if table is not None:
            yield str(path), str(table.to_pylist())


def surviving(root: Path, names: set[str]) -> set[tuple[str, str]]:
    return {(name, place) for place, text in texts(root) for name in names if name in text or name.lower() in text}


WORLDS = [("codemode", {}), ("auditlogs", {}), *(("auditlogs", {"drift": (one,)}) for one in ("more-fields", "arrays"))]


def searched(rig: Any, source: str, tmp_path: Path) -> None:
    settings = private(tmp_path / "keys")
    report = run(rig, source, **settings)
    assert report.exit_code in (ExitCode.OK, ExitCode.INCOMPLETE), report.error
    names = names_of(rig)
    assert len(names) > 10
    assert any(rig.rows())
    assert surviving(rig.root / "out", names) == set()
    assert surviving(rig.root / "checkpoints", names) == set()


@pytest.mark.parametrize(("source", "options"), WORLDS)
def test_no_name_is_in_files_and_checkpoints(
    rig_of: Callable[..., Any], tmp_path: Path, source: str, options: dict[str, Any]
) -> None:
    searched(rig_of(events=150, **options), source, tmp_path)


def test_names_are_there_without_the_transform(rig_of: Callable[..., Any], tmp_path: Path) -> None:
    """So that the search above is known to find what it looks for."""
    rig = rig_of(events=150)
    run(rig, "codemode")
    assert len({name for name, _ in surviving(rig.root / "out", names_of(rig))}) > 10


STOPS = {"renamed-tool", "required-argument"}  # with these, nothing can be read


@pytest.mark.soak
@pytest.mark.parametrize("drift", [None, *sorted(DRIFTS.keys() - STOPS)])
@pytest.mark.parametrize("seed", range(1, 21))
def test_no_name_survives_in_any_world(
    rig_of: Callable[..., Any], tmp_path: Path, seed: int, drift: str | None
) -> None:
    options = {"drift": (drift,)} if drift else {}
    searched(rig_of(events=300, seed=seed, **options), "codemode" if seed % 2 and not drift else "auditlogs", tmp_path)


def test_no_name_is_in_what_is_staged_quarantined_or_logged(
    rig_of: Callable[..., Any], tmp_path: Path, shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rig = rig_of(events=150)
    settings = private(tmp_path / "keys")
    made = transforms_of(Settings(state_dir=rig.root, **settings), load_plugins(environ={}))
    down, picky = (
        shelf(error=SinkError("down")),
        shelf(refuse=lambda event: "no" if event["event_id"][0] in "012" else None),
    )
    rig.run({"down": down, "picky": picky}, recover="all", transforms=made, identity=None)
    names = names_of(rig)
    assert any(path.suffix == ".arrow" for path in rig.staging.rglob("*"))
    assert any((rig.root / "quarantine").rglob("*.arrow"))
    assert surviving(rig.root / "staging", names) | surviving(rig.root / "quarantine", names) == set()
    assert not {name for name in names if name in caplog.text}


def test_the_same_events_are_hidden_the_same_way_in_other_windows(rig_of: Callable[..., Any], tmp_path: Path) -> None:
    rig = rig_of(events=150)
    settings = private(tmp_path / "keys")
    run(rig, "codemode", **settings)
    parts, at = replace(rig, root=tmp_path / "parts"), rig.now - timedelta(hours=25)
    while at < rig.now:
        run(rig, "codemode", parts.root, since=at, until=min(at + timedelta(hours=7), rig.now), **settings)
        at += timedelta(hours=7)

    def told(one: Any) -> list[dict[str, Any]]:
        rows = sorted(one.rows(), key=lambda row: row["event_id"])
        return [{name: row[name] for name in row if name not in ("ingested_at", "batch_id")} for row in rows]

    assert len(told(rig)) == 150
    assert told(parts) == told(rig)


def test_a_rule_that_changed_is_told_once_and_a_new_key_for_old_events_is_refused(
    rig_of: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = rig_of(events=60)
    settings = private(tmp_path / "keys")
    run(rig, "codemode", **settings)
    settings["transforms"]["redact"]["drop"] = ["raw_user_agent"]
    for _ in range(2):
        assert run(rig, "codemode", **settings).exit_code is ExitCode.OK
    told = [one.message for one in caplog.records if "transform" in one.message]
    assert told == ["the transform has changed; events loaded before keep their old form"]
    keys = tmp_path / "keys" / "keys.toml"
    keys.write_text(KEYS + KEYS.replace("id = 1", "id = 2").replace("2020", "2026"))
    report = run(rig, "codemode", **settings)
    assert report.exit_code is ExitCode.SETTINGS
    assert "were exported with key 1; give it a later 'from'" in str(report.error)
