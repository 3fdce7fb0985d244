"""Settings and plugins -> transforms, built and checked: those of the run, and those of one sink each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cfaudit_export.app.resolve import OWN_TRANSFORMS
from cfaudit_export.errors import SettingsError
from cfaudit_export.settings import Settings, values

if TYPE_CHECKING:
    from cfaudit_export.pipeline.transform import NamedTransform, Transforms
    from cfaudit_export.plugin.registry import Plugins

# What `event_key` is computed from and stays in the row under no other name.
_NAMES = ("actor_email", "actor_token_name")


def transforms_of(settings: Settings, plugins: Plugins, *, with_sinks: bool = True) -> Transforms:
    """Return all transforms that the settings name; one that is named twice is built once.

    Raises:
        PluginError: one is missing, broken or in conflict.
        SettingsError: the settings of one do not fit it, or it hides what `event_key` gives away.
    """
    from cfaudit_export.pipeline.transform import Transforms

    built: dict[str, NamedTransform] = {}

    def named(names: tuple[str, ...]) -> tuple[NamedTransform, ...]:
        for name in names:
            if name not in built:
                built[name] = built_transform(settings, plugins, name)
        return tuple(built[name] for name in names)

    sinks = settings.sink if with_sinks else ()
    own = {sink: sink_transforms(sink, settings.sinks.get(sink, {})) for sink in sinks}
    for sink, names in own.items():
        if twice := [name for name in names if name in settings.transform]:
            raise SettingsError(
                f"'sinks.{sink}.{OWN_TRANSFORMS}' names '{twice[0]}', which is applied to all events already; "
                "name it in one place"
            )
    found = Transforms(named(settings.transform), {sink: named(names) for sink, names in own.items() if names})
    for one in found.all:
        _require_secret_identity(one, settings)
    return found


def sink_transforms(sink: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the transforms of one sink.

    Raises:
        SettingsError: what is set is no name and no list of names.
    """
    if (given := table.get(OWN_TRANSFORMS)) is None:
        return ()
    try:
        return values.names(given, datetime.min.replace(tzinfo=UTC))
    except ValueError as error:
        raise SettingsError(f"'sinks.{sink}.{OWN_TRANSFORMS}': {error}") from None


def require_transformed(settings: Settings, refused_by: str, to: str) -> None:
    """Refuse to load events into a sink that would get them without a transform of its own.

    Raises:
        SettingsError: they are quarantined as the sink got them that refused them, and that has other transforms.
    """
    gone = (*settings.transform, *sink_transforms(refused_by, settings.sinks.get(refused_by, {})))
    for name in sink_transforms(to, settings.sinks.get(to, {})):
        if name not in gone:
            raise SettingsError(
                f"sink '{to}' has the transform '{name}', which events that '{refused_by}' refused have not been "
                f"through; load them into '{refused_by}', or into a sink without it"
            )


def built_transform(settings: Settings, plugins: Plugins, name: str) -> NamedTransform:
    """Return a transform, built.

    Raises:
        PluginError: it is missing, broken or in conflict.
        SettingsError: its settings do not fit it.
    """
    from cfaudit_export.pipeline.transform import NamedTransform
    from cfaudit_export.plugin.registry import build_config

    plugin = plugins.transform(name)
    config = build_config(plugin, settings.transforms.get(name, {}), f"transforms.{name}", strict=False)
    return NamedTransform(name, plugin.build(config), hashlib.sha256(repr(config).encode()).hexdigest())


def _require_secret_identity(transform: NamedTransform, settings: Settings) -> None:
    """Refuse to hide a value that can be found again by computing `event_key` for candidates."""
    hides = getattr(transform.apply, "hides", ())
    if settings.identity.key_file is None and (named := [name for name in _NAMES if name in hides]):
        raise SettingsError(
            f"transform '{transform.name}' hides {named[0]}, but event_key is computed from it and can be guessed "
            "back; set identity.key_file (new streams only)"
        )
