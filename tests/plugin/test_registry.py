"""Plugins of every kind, installed as distributions: the good are offered, the bad are named, none stops another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from textwrap import dedent

import pytest

from cfaudit_export import Batch, Receipt, SettingsError, Stream, Window
from cfaudit_export.core.model import EPOCH, RunReport, from_ms
from cfaudit_export.errors import ExitCode, PluginError
from cfaudit_export.plugin.registry import Plugins, build_config, load_plugins, missing_requirements

GOOD = """
    from dataclasses import dataclass, field
    from pathlib import Path
    from cfaudit_export import *

    @dataclass(frozen=True)
    class Config:
        path: Path = Path(".")
        token: str = field(default="", repr=False)

    def build(config): ...
"""
SINK = """
    @hookimpl
    def cfaudit_sinks():
        yield SinkPlugin("{name}", Config, build, "a sink", extra={extra!r})
"""

Install = Callable[..., Plugins]


def good(*hooks: str) -> str:
    return "\n".join(dedent(text) for text in (GOOD, *hooks))


def sink(name: str, extra: str | None = None) -> str:
    return good(SINK.format(name=name, extra=extra))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return what installs one more distribution beside those before and loads them all."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def add(
        distribution: str, module: str, text: str, *, entry_point: str = "", requires: Sequence[str] = (), off: str = ""
    ) -> Plugins:
        (site / f"{module}.py").write_text(text)
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", "Version: 1.2", *requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[cfaudit_export]\n{entry_point or module} = {module}\n")
        return load(site, off)

    yield add
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(site: Path, off: str = "") -> Plugins:
    found = [one for distribution in metadata.distributions(path=[str(site)]) for one in distribution.entry_points]
    return load_plugins(found, environ={"CFAUDIT_DISABLED_PLUGINS": off})


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(PluginError) as caught:
        ask()
    assert caught.value.exit_code is ExitCode.SETTINGS
    return str(caught.value)


def test_the_built_in_plugins_come_through_the_same_door() -> None:
    plugins = load_plugins(environ={})
    assert plugins.broken == ()
    assert plugins.conflicts == ()
    for offers, name in ((plugins.sources, "auditlogs"), (plugins.sinks, "parquet"), (plugins.stores, "file")):
        assert offers[name].distribution == "cfaudit-export"
    assert plugins.source("auditlogs").name == "auditlogs"
    assert plugins.sink("parquet").name == "parquet"
    assert plugins.store("file").name == "file"


def test_an_offer_says_where_it_comes_from(install: Install) -> None:
    plugins = install("cf-one", "one", sink("demo"), entry_point="entry")
    offer = plugins.sinks["demo"]
    assert (offer.distribution, offer.version, offer.module, offer.entry_point) == ("cf-one", "1.2", "one", "entry")
    assert offer.record is plugins.sink("demo")
    assert [(plugin.entry_point, plugin.hooks) for plugin in plugins.loaded] == [("entry", ("cfaudit_sinks",))]


def test_every_kind_of_thing_can_be_offered(install: Install) -> None:
    plugins = install(
        "cf-all",
        "everything",
        good(
            SINK.format(name="a-sink", extra=None),
            """
            @hookimpl
            def cfaudit_sources():
                return [SourcePlugin("a_source", Config, build, "a source", filters=("actor_id",))]

            @hookimpl
            def cfaudit_checkpoint_stores():
                return (CheckpointStorePlugin("store1", Config, build, "a store"),)

            @hookimpl
            def cfaudit_transforms():
                yield TransformPlugin("first", Config, build, "a transform")
                yield TransformPlugin("second", Config, build, "another")
            """,
        ),
    )
    assert plugins.broken == ()
    assert plugins.source("a_source").filters == ("actor_id",)
    assert plugins.sink("a-sink").summary == "a sink"
    assert plugins.store("store1").summary == "a store"
    assert [*plugins.transforms] == ["first", "second"]
    assert plugins.transform("second").summary == "another"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise BaseException", "BaseException"),
        ("def (", "SyntaxError: invalid syntax (bad.py, line 1)"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines"),
        ("", "it implements no hook (known: cfaudit_after_load, cfaudit_after_run, cfaudit_checkpoint_stores, cfaud"),
        ("def cfaudit_sinks(): return []", "'cfaudit_sinks' is not marked with @hookimpl"),
        (
            sink("fine") + "\n@hookimpl\ndef cfaudit_after_lod(batch): ...",
            "unknown hook 'cfaudit_after_lod'; did you mean 'cfaudit_after_load'?",
        ),
        (
            good("@hookimpl\ndef cfaudit_after_load(batch, reciept): ..."),
            "PluginValidationError: Plugin 'bad' for hook 'cfaudit_after_load' hookimpl definition: ",
        ),
        (good("@hookimpl\ndef cfaudit_sinks(): raise RuntimeError('no luck')"), "RuntimeError: no luck"),
        (good("@hookimpl\ndef cfaudit_sinks():\n    yield 1 / 0"), "ZeroDivisionError: division by zero"),
        (
            good("@hookimpl\ndef cfaudit_sinks(): ..."),
            "hook 'cfaudit_sinks' returned None, expected an iterable of SinkPlugin",
        ),
        (
            good("@hookimpl\ndef cfaudit_sinks(): return SinkPlugin('x', Config, build, '')"),
            "hook 'cfaudit_sinks' returned SinkPlugin, expected an iterable of SinkPlugin",
        ),
        (
            good("@hookimpl\ndef cfaudit_sinks(): yield TransformPlugin('x', Config, build, '')"),
            "hook 'cfaudit_sinks' offered TransformPlugin, expected SinkPlugin",
        ),
        (
            good("@hookimpl\ndef cfaudit_sinks(): yield SinkPlugin('My Sink', Config, build, '')"),
            "the name of sink 'My Sink' is not lower-case letters, digits, '-' and '_'",
        ),
        (
            good("@hookimpl\ndef cfaudit_sinks(): yield SinkPlugin('x', dict, build, '')"),
            "config of sink 'x' is not a frozen dataclass",
        ),
        (
            good(
                "@dataclass\nclass Loose: ...\n@hookimpl\ndef cfaudit_sinks(): yield SinkPlugin('x', Loose, build, '')"
            ),
            "config of sink 'x' is not a frozen dataclass",
        ),
        (
            good(
                "@dataclass(frozen=True)\nclass Odd:\n    at: 'Nowhere'\n"
                "@hookimpl\ndef cfaudit_sinks(): yield SinkPlugin('x', Odd, build, '')"
            ),
            "NameError: name 'Nowhere' is not defined",
        ),
        (
            good("@hookimpl\ndef cfaudit_sinks(): yield SinkPlugin('x', Config, None, '')"),
            "build of sink 'x' cannot be called",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_reason_and_stops_no_other(install: Install, text: str, error: str) -> None:
    install("cf-first", "a_first", sink("first"))
    install("cf-last", "z_last", sink("last"))
    plugins = install("cf-bad", "bad", text)
    assert [*plugins.sinks] == ["first", "last"]
    (broken,) = plugins.broken
    assert (broken.entry_point, broken.distribution, broken.version, broken.module) == ("bad", "cf-bad", "1.2", "bad")
    assert broken.error.startswith(error)
    assert "\n" not in broken.error
    assert refusal(lambda: plugins.sink("bad")).startswith("plugin 'bad' of cf-bad 1.2 is broken, repair or upgrade it")


def test_ctrl_c_during_an_import_is_not_a_broken_plugin(install: Install) -> None:
    with pytest.raises(KeyboardInterrupt):
        install("cf-slow", "slow", "raise KeyboardInterrupt")


def test_a_hook_for_a_later_version_may_be_marked_optional(install: Install) -> None:
    plugins = install("cf-new", "new", sink("demo") + "\n@hookimpl(optionalhook=True)\ndef cfaudit_dashboards(): ...")
    assert plugins.broken == ()
    assert plugins.sink("demo")


def test_a_name_offered_by_two_distributions_belongs_to_neither(install: Install) -> None:
    install("cf-one", "one", sink("demo"))
    install("cf-other", "other", sink("demo"))
    plugins = install("cf-third", "third", sink("third"))
    assert [*plugins.sinks] == ["third"]
    (conflict,) = plugins.conflicts
    assert (conflict.kind, conflict.name) == ("sink", "demo")
    assert [offer.distribution for offer in conflict.offers] == ["cf-one", "cf-other"]
    assert refusal(lambda: plugins.sink("demo")) == (
        "sink 'demo' is offered more than once, by cf-one 1.2 (one) and cf-other 1.2 (other); uninstall all but one"
    )


def test_a_sink_and_a_source_may_share_a_name(install: Install) -> None:
    text = "@hookimpl\ndef cfaudit_sources(): yield SourcePlugin('demo', Config, build, '')"
    install("cf-one", "one", sink("demo"))
    plugins = install("cf-other", "other", good(text))
    assert plugins.conflicts == ()
    assert plugins.sink("demo")
    assert plugins.source("demo")


def test_a_plugin_switched_off_is_not_even_imported(install: Install) -> None:
    install("cf-one", "one", sink("demo"))
    plugins = install("cf-mine", "mine", "raise SystemExit('imported')", entry_point="loud", off=" loud , unheard-of")
    assert plugins.broken == ()
    assert [(plugin.entry_point, plugin.distribution) for plugin in plugins.disabled] == [("loud", "cf-mine")]
    assert "switched off by CFAUDIT_DISABLED_PLUGINS: loud" in refusal(lambda: plugins.sink("mine"))


def test_an_unknown_name_is_answered_with_the_nearest_and_all_that_are_installed(install: Install) -> None:
    install("cf-one", "one", sink("parquet"))
    plugins = install("cf-two", "two", sink("splunk"))
    assert refusal(lambda: plugins.sink("parqet")) == (
        "no sink 'parqet' is installed; did you mean 'parquet'? (installed: parquet, splunk)"
    )
    assert refusal(lambda: plugins.sink("kafka")) == "no sink 'kafka' is installed (installed: parquet, splunk)"
    assert refusal(lambda: plugins.source("parquet")) == "no source 'parquet' is installed (installed: none)"


def test_an_unknown_name_points_at_broken_plugins_too_since_one_of_them_may_have_offered_it(install: Install) -> None:
    plugins = install("cf-bad", "kafka_plugin", "1 / 0")
    assert refusal(lambda: plugins.sink("kafka")).endswith("(installed: none; broken: kafka_plugin)")


@pytest.mark.parametrize(
    ("requires", "missing"),
    [
        (["Requires-Dist: no-such-library>=3 ; extra == 'demo'"], ("no-such-library>=3",)),
        (["Requires-Dist: pytest>=99999 ; extra == 'demo'"], ("pytest>=99999",)),
        (["Requires-Dist: pytest>=1 ; extra == 'demo'", "Requires-Dist: absent ; extra == 'other'"], ()),
        (["Requires-Dist: absent ; extra == 'demo' and python_version < '3'", "Requires-Dist: absent"], ()),
        ([], ()),
    ],
)
def test_a_missing_extra_is_answered_with_the_command_that_brings_it(
    install: Install, requires: list[str], missing: tuple[str, ...]
) -> None:
    plugins = install("cf-heavy", "heavy", sink("demo", extra="demo"), requires=["Provides-Extra: demo", *requires])
    assert missing_requirements(plugins.sinks["demo"]) == missing
    if not missing:
        assert plugins.sink("demo")
        return
    assert refusal(lambda: plugins.sink("demo")) == (
        f"sink 'demo' needs {missing[0]}, which is not installed; run: pip install 'cf-heavy[demo]'"
    )


def test_a_distribution_whose_metadata_is_lost_is_loaded_all_the_same(install: Install, tmp_path: Path) -> None:
    install("cf-cut", "cut", sink("demo", extra="heavy"))
    (tmp_path / "site" / "cf_cut-1.2.dist-info" / "METADATA").unlink()
    plugins = load(tmp_path / "site")
    assert plugins.sinks["demo"].distribution == "unknown"
    assert plugins.sink("demo")


def test_an_entry_point_that_is_no_name_of_a_module_is_a_broken_plugin(install: Install, tmp_path: Path) -> None:
    install("cf-one", "one", sink("demo"))
    file = tmp_path / "site" / "cf_one-1.2.dist-info" / "entry_points.txt"
    file.write_text("[cfaudit_export]\none = one\nodd = not a module!\ngone = one:gone\nnone = one:__doc__\n")
    plugins = load(tmp_path / "site")
    assert plugins.sink("demo")
    assert [plugin.entry_point for plugin in plugins.broken] == ["gone", "none", "odd"]


BATCH = Batch("ab" * 16, Stream("a" * 32, "auditlogs"), Window(from_ms(0), from_ms(1)), 3, Path("staged"), "cd" * 32)
RECEIPT = Receipt("ab" * 16, 3)
REPORT = RunReport(BATCH.stream, EPOCH, EPOCH, None)
OBSERVER = """
    seen = []

    @hookimpl
    def cfaudit_after_load(batch, receipt):
        seen.append((batch.rows, receipt.rows))

    @hookimpl
    def cfaudit_after_run(report):
        seen.append(report)
"""


@pytest.mark.parametrize("end", ["raise ValueError('secret of an event')", "import sys; sys.exit(1)"])
def test_an_observer_that_fails_is_logged_and_keeps_nothing_from_the_others(
    install: Install, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    faulty = f"@hookimpl\ndef cfaudit_after_load(batch):\n    {end}\n@hookimpl\ndef cfaudit_after_run():\n    {end}"
    install("cf-a", "observer_a", good(OBSERVER))
    install("cf-b", "observer_b", good(faulty))
    plugins = install("cf-c", "observer_c", good(OBSERVER))
    with caplog.at_level(logging.WARNING):
        plugins.after_load(BATCH, RECEIPT)
        plugins.after_run(REPORT)
    for name in ("observer_a", "observer_c"):
        assert sys.modules[name].seen == [(3, 3), REPORT]
    assert [record.message for record in caplog.records] == ["observer failed"] * 2
    facts = vars(caplog.records[0])
    assert (facts["plugin"], facts["distribution"], facts["hook"]) == ("observer_b", "cf-b", "cfaudit_after_load")
    assert facts["at"].startswith("observer_b.py:")
    assert facts["error"] in {"ValueError", "SystemExit"}
    assert "secret of an event" not in str([vars(record) for record in caplog.records])


def test_ctrl_c_in_an_observer_ends_the_run(install: Install) -> None:
    plugins = install("cf-a", "observer", good("@hookimpl\ndef cfaudit_after_run(): raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        plugins.after_run(REPORT)


def test_the_settings_of_a_plugin_are_built_from_its_table(install: Install) -> None:
    record = install("cf-one", "one", sink("demo")).sink("demo")
    config = build_config(record, {"path": "out", "token": "hunter2"}, "sinks.demo")
    assert type(config) is record.config
    assert config.path == Path("out")
    with pytest.raises(SettingsError, match=r"unknown key 'sinks\.demo\.tokn'; did you mean 'token'\?") as caught:
        build_config(record, {"tokn": "hunter2"}, "sinks.demo")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"'sinks\.demo\.path': expected a path, got int"):
        build_config(record, {"path": 1}, "sinks.demo", strict=False)


def test_what_is_installed_cannot_be_changed_by_who_asks(install: Install) -> None:
    plugins = install("cf-one", "one", sink("demo"))
    with pytest.raises(TypeError):
        plugins.sinks["other"] = plugins.sinks["demo"]  # type: ignore[index]  # what the test is about
