from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.app.compose import Assembly, compose
from cfaudit_export.errors import AccessError, PluginError, SettingsError
from cfaudit_export.plugin.records import SourcePlugin
from cfaudit_export.plugin.registry import Offer, load_plugins
from cfaudit_export.settings import Settings

ENVIRON = {"CLOUDFLARE_API_TOKEN": "cfut_0123456789abcdef"}


def clock() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def fit(tmp_path: Path, environ: dict[str, str] = ENVIRON, **settings: Any) -> Assembly:
    settings = {"source": "auditlogs", "sink": ("parquet",), "sinks": {"parquet": {"path": "out"}}} | settings
    return compose(Settings(state_dir=tmp_path, **settings), load_plugins(), environ=environ, clock=clock)


def test_nothing_is_touched_before_a_run(tmp_path: Path) -> None:
    assembly = fit(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert assembly.staging == tmp_path / "staging"


def test_texts_stand_for_numbers_in_the_tables_of_plugins(tmp_path: Path) -> None:
    assembly = fit(tmp_path, sources={"auditlogs": {"page_size": "500", "timeout_seconds": "1.5"}})
    assert (assembly.source[1].page_size, assembly.source[1].timeout_seconds) == (500, 1.5)


@pytest.mark.parametrize(
    ("wait", "patience"), [(None, 120.0), (timedelta(seconds=5), 5.0), (timedelta(hours=1), 120.0)]
)
def test_a_sink_that_is_down_is_not_waited_for_longer_than_the_run_may_wait(
    tmp_path: Path, wait: timedelta | None, patience: float
) -> None:
    sinks = {"splunk": {"url": "https://splunk.example.com:8088"}, "parquet": {"path": "out"}}
    assembly = fit(tmp_path, sink=("splunk", "parquet"), sinks=sinks, max_wait=wait)
    assert assembly.sinks["splunk"][1].retry_seconds == patience


def test_a_stream_is_account_source_and_sorted_filters(tmp_path: Path) -> None:
    assembly = fit(tmp_path, account=("a" * 32,), filters={"zone_name": "z", "action_type": "create"})
    stream = assembly.stream("a" * 32)
    assert (stream.account_id, stream.source) == ("a" * 32, "auditlogs")
    assert stream.filters == (("action_type", "create"), ("zone_name", "z"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sink": ("nowhere",)}, PluginError, "no sink 'nowhere' is installed"),
        ({"source": "nowhere"}, PluginError, "no source 'nowhere' is installed"),
        ({"transform": ("nothing",)}, PluginError, "no transform 'nothing' is installed"),
        ({"checkpoint": {"store": "nowhere"}}, PluginError, "no checkpoint store 'nowhere' is installed"),
        ({"checkpoint": {"pth": "x"}}, SettingsError, "unknown key 'checkpoint.pth'; did you mean 'path'"),
        (
            {"sinks": {"parqet": {"path": "x"}}},
            SettingsError,
            "unknown key 'sinks.parqet'; did you mean 'sinks.parquet'",
        ),
        (
            {"filters": {"colour": "red"}},
            SettingsError,
            "source 'auditlogs' cannot filter by 'colour'; it filters by: ",
        ),
        (
            {"recover": {"mode": "auto", "colour": ("red",)}},
            SettingsError,
            "source 'auditlogs' cannot filter by 'colour'; it filters by: ",
        ),
        ({"environ": {}}, AccessError, "no credential for 'https://auditlogs.mcp.cloudflare.com/mcp'; run: "),
    ],
)
def test_what_does_not_fit_is_found_before_anything_is_connected(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(tmp_path, **settings)


GATEWAY = "https://gateway.example.com/mcp"
BOTH = {"auditlogs": {"server_url": GATEWAY}, "codemode": {"server_url": "https://gateway.example.com/api/mcp"}}


def sources_of(assembly: Assembly) -> list[str]:
    return [one.source_name for one in (assembly, assembly.otherwise) if one]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({}, ["codemode", "auditlogs"]),
        ({"auditlogs": {"page_size": 500}}, ["codemode", "auditlogs"]),
        (BOTH, ["codemode", "auditlogs"]),
        ({"auditlogs": {"server_url": GATEWAY}}, ["auditlogs"]),
        ({"codemode": {"server_url": GATEWAY}}, ["codemode"]),
    ],
)
def test_where_the_settings_name_a_server_the_credential_goes_to_no_other(
    tmp_path: Path, sources: dict[str, Any], expected: list[str]
) -> None:
    assert sources_of(fit(tmp_path, source="auto", sources=sources)) == expected


def test_a_second_source_for_gaps_does_not_take_the_credential_of_a_gateway_to_another_host(tmp_path: Path) -> None:
    sources = {"auditlogs": {"server_url": GATEWAY}}
    with pytest.raises(SettingsError, match="would send the credential to 'mcp.cloudflare.com'.*sources.codemode"):
        fit(tmp_path, fill_gaps_from="codemode", sources=sources)
    assert fit(tmp_path, fill_gaps_from="codemode", sources=BOTH).filler
    assert fit(tmp_path, fill_gaps_from="codemode").filler
    here = sources | {"codemode": {"server_url": "https://mcp.cloudflare.com/mcp?x=1"}}
    assert fit(tmp_path, fill_gaps_from="codemode", sources=here).filler


@pytest.mark.parametrize(("off", "left"), [("codemode", "auditlogs"), ("auditlogs", "codemode")])
def test_switching_one_source_off_leaves_the_other_one(tmp_path: Path, off: str, left: str) -> None:
    plugins = load_plugins(environ={"CFAUDIT_DISABLED_PLUGINS": off})
    assert sorted(plugins.sources) == sorted([left, "rest"])
    settings = Settings(state_dir=tmp_path, sink=("parquet",), sinks={"parquet": {"path": "out"}})
    assembly = compose(settings, plugins, environ=ENVIRON, clock=clock)
    assert (assembly.source_name, assembly.otherwise) == (left, None)


def test_of_several_sources_one_may_lack_a_credential_and_not_all(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no credential for 'https://auditlogs.mcp.cloudflare.com/mcp'"):
        fit(tmp_path, environ={}, source="auto")


def test_a_source_that_asks_nobody_needs_no_credential(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Config:
        path: str = ""

    def build(_config: Any, _context: Any) -> Any:
        raise AssertionError("nothing is built before a run")

    record = SourcePlugin("files", Config, build, "reads files", needs_credential=False)
    plugins = load_plugins(environ={})
    offer = Offer("files", "files", "1", "files", record)
    plugins = replace(plugins, sources={**plugins.sources, "files": offer})
    settings = Settings(source="files", sink=("parquet",), sinks={"parquet": {"path": "out"}}, state_dir=tmp_path)
    assembly = compose(settings, plugins, environ={}, clock=clock)
    assert asyncio.run(assembly.credential.token()) is None
    needy = replace(plugins, sources={"files": replace(offer, record=replace(record, needs_credential=True))})
    with pytest.raises(AccessError, match="no credential"):
        compose(settings, needy, environ={}, clock=clock)


@pytest.mark.parametrize(
    ("sink", "first", "second", "is_same"),
    [
        ("parquet", {"path": "out"}, {"path": "here/../out"}, True),
        ("parquet", {"path": "out"}, {"path": "other"}, False),
        ("s3", {"bucket": "a"}, {"bucket": "a", "attempts": 2}, True),
        ("s3", {"bucket": "a"}, {"bucket": "b"}, False),
        ("s3", {"bucket": "a", "prefix": "x/"}, {"bucket": "a", "prefix": "{source}/"}, False),
        ("s3", {"bucket": "a"}, {"bucket": "a", "endpoint_url": "https://minio.example.com"}, False),
        ("bigquery", {"table": "p.d.t"}, {"table": "p.d.t", "project": "pays"}, True),
        ("bigquery", {"table": "d.t", "project": "p"}, {"table": "p.d.t"}, True),
        ("bigquery", {"table": "d.t"}, {"table": "d.u"}, False),
        ("splunk", {"url": ["https://a:1", "https://b:1"]}, {"url": ["https://b:1", "https://a:1"]}, True),
        ("splunk", {"url": "https://a:1"}, {"url": "https://a:1", "index": "audit"}, False),
    ],
)
def test_a_sink_names_its_destination(
    tmp_path: Path, sink: str, first: dict[str, Any], second: dict[str, Any], *, is_same: bool
) -> None:
    named = [fit(tmp_path, sink=(sink,), sinks={sink: one}).destinations[sink] for one in (first, second)]
    assert (named[0] == named[1]) is is_same


def test_a_link_to_a_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = [fit(tmp_path, sinks={"parquet": {"path": str(tmp_path / name)}}).destinations for name in ("real", "link")]
    assert found[0] == found[1] == {"parquet": str(tmp_path / "real")}
