"""The names in the settings -> plugins with settings that fit them; no server is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cfaudit_export.errors import SettingsError
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.plugin.interfaces import CheckpointStore
from cfaudit_export.plugin.records import SinkPlugin, SourcePlugin
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.plugin.registry import Plugins, Record

DEFAULT_STORE = "file"
OWN_TRANSFORMS = "transform"
"""In the settings of a sink, and not of its plugin: transforms of what this sink gets."""


def check_names(settings: Settings, plugins: Plugins) -> None:
    """Refuse a table whose name is nearly that of a plugin: it would be skipped.

    Raises:
        SettingsError: there is one.
    """
    for kind, tables, offers in (
        ("sources", settings.sources, plugins.sources),
        ("sinks", settings.sinks, plugins.sinks),
        ("transforms", settings.transforms, plugins.transforms),
    ):
        for name in tables:
            if name not in offers and (match := get_close_matches(name, offers, n=1)):
                raise SettingsError(f"unknown key '{kind}.{name}'; did you mean '{kind}.{match[0]}'?")


def offered_sources(settings: Settings, plugins: Plugins) -> tuple[str, ...]:
    """Return the names of the sources to choose from, without those that are switched off while another is there."""
    off = {one.entry_point for one in plugins.disabled}
    return tuple(name for name in settings.candidates if name not in off) or settings.candidates


def resolve_source(settings: Settings, plugins: Plugins) -> tuple[SourcePlugin, Any]:
    """Return the chosen source and its settings.

    Raises:
        PluginError: it is missing, broken or in conflict.
        SettingsError: its settings do not fit it, or it lacks a filter that is wanted.
    """
    name = settings.source
    plugin = plugins.source(name)
    config = _config(plugin, settings.sources.get(name, {}), f"sources.{name}")
    wanted = {*settings.filters, *settings.recover} - {"mode"}
    for unknown in sorted(wanted - set(plugin.filters)):
        known = ", ".join(plugin.filters) or "none"
        raise SettingsError(f"source '{name}' cannot filter by '{unknown}'; it filters by: {known}")
    return plugin, config


def request_of(settings: Settings) -> RunRequest:
    """Return what runs with these settings are asked for."""
    return RunRequest(
        since=settings.since,
        until=settings.until,
        settle_lag=settings.settle_lag,
        rescan=settings.rescan,
        adopt_destination=settings.adopt_destination,
        reset_proof=settings.reset_proof,
        fail_on_trimmed=settings.fail_on_trimmed,
    )


def server_url_of(source: tuple[SourcePlugin, Any]) -> str:
    """Return the URL of the server of a source as `resolve_source` returns it, empty for a source without one."""
    return str(getattr(source[1], "server_url", ""))


def require_named_host(first: tuple[SourcePlugin, Any], second: tuple[SourcePlugin, Any]) -> None:
    """Refuse a second source that would take the credential of the first one's server to a host that is not named.

    A first source at its usual server has the second one at its usual server; where the settings name another server,
    a gateway most often, they have to name that of the second source too.

    Raises:
        SettingsError: they do not.
    """
    hosts = [urlsplit(server_url_of(source)).netloc for source in (first, second)]
    if _has_usual_server(first) or not _has_usual_server(second) or hosts[0] == hosts[1]:
        return
    raise SettingsError(
        f"source '{second[0].name}' would send the credential to '{hosts[1]}', but the settings name '{hosts[0]}' "
        f"only; name its server too, as in -o sources.{second[0].name}.server_url=URL"
    )


def _has_usual_server(source: tuple[SourcePlugin, Any]) -> bool:
    """Say whether a source asks the server that it asks where the settings name none."""
    usual = next((one.default for one in dataclasses.fields(source[1]) if one.name == "server_url"), "")
    return bool(server_url_of(source) == usual)


def resolve_sink(
    settings: Settings, plugins: Plugins, name: str, table: Mapping[str, Any] | None = None
) -> tuple[SinkPlugin, Any]:
    """Return a sink and its settings, its patience within that of the run.

    Args:
        settings: what is wanted.
        plugins: what is installed.
        name: the name of the sink.
        table: its settings, by default those of its name.

    Raises what `resolve_source` raises.
    """
    plugin = plugins.sink(name)
    table = settings.sinks.get(name, {}) if table is None else table
    table = {key: value for key, value in table.items() if key != OWN_TRANSFORMS}
    config, wait = _config(plugin, table, f"sinks.{name}"), settings.max_wait
    return plugin, config if wait is None else capped_retry(config, wait.total_seconds())


def capped_retry(config: Any, most_seconds: float) -> Any:
    """Return settings of a plugin whose patience, where it has any, is no longer than that."""
    patience = getattr(config, "retry_seconds", 0.0)
    return dataclasses.replace(config, retry_seconds=most_seconds) if patience > most_seconds else config


def open_store(settings: Settings, plugins: Plugins) -> CheckpointStore:
    """Return the checkpoint store. Raises what `resolve_source` raises."""
    table = dict(settings.checkpoint)
    plugin = plugins.store(str(table.pop("store", DEFAULT_STORE)))
    return plugin.build(_config(plugin, table, "checkpoint"), settings.state_dir)


def open_signed_store(settings: Settings, plugins: Plugins) -> CheckpointStore:
    """Return the checkpoint store for who writes checkpoints: the key that signs manifests signs them, too.

    Without a key, signed checkpoints are refused, unless no manifests are wanted: that is said on purpose.

    Raises:
        SettingsError: the key cannot be read.

    And what `resolve_source` raises.
    """
    from cfaudit_export.stores.signed import SignedStore

    store, key_file = open_store(settings, plugins), settings.integrity.key_file
    if key_file is not None:
        from cfaudit_export.proof.keys import load_key

        return SignedStore(store, (load_key(key_file),))
    return store if settings.integrity.manifests is False else SignedStore(store)


def _config(plugin: Record, table: Mapping[str, Any], where: str) -> Any:
    """Return a plugin's settings; texts may stand for numbers, as variables and `-o` can give nothing else."""
    from cfaudit_export.plugin.registry import build_config  # the list of installed distributions is slow to import

    return build_config(plugin, table, where, strict=False)


def secrets_of(config: Any) -> Iterator[str]:
    """Yield the texts of the fields that a plugin keeps out of its `repr`."""
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if not one.repr and isinstance(value, str):
            yield value
