"""One entry point in, its own plugin manager and its records out; what pluggy would pass over in silence is raised.

A manager for each plugin, because in one manager for all a plugin that fails takes the others with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import pluggy
from msgspec import inspect

from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import PluginError
from cfaudit_export.plugin import hookspecs
from cfaudit_export.plugin.records import CheckpointStorePlugin, SinkPlugin, SourcePlugin, TransformPlugin

OFFERING: dict[str, tuple[str, type[Any]]] = {
    "source": ("cfaudit_sources", SourcePlugin),
    "sink": ("cfaudit_sinks", SinkPlugin),
    "checkpoint store": ("cfaudit_checkpoint_stores", CheckpointStorePlugin),
    "transform": ("cfaudit_transforms", TransformPlugin),
}
"""Every kind of thing that can be offered: the hook that offers it and the record that describes it."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def load_isolated(entry_point: metadata.EntryPoint) -> pluggy.PluginManager:
    """Import a plugin and return a manager that holds it and nothing else.

    Raises:
        PluginError: it implements no hook, an unknown one, or one that lacks the marker.
        BaseException: whatever the module raises while it is imported.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    known = {name for name in vars(manager.hook) if not name.startswith("_")}
    plugin = entry_point.load()
    manager.register(plugin, name=entry_point.name)
    implemented = {caller.name for caller in callers(manager)}
    for caller in callers(manager):
        if not caller.has_spec() and not all(one.optionalhook for one in caller.get_hookimpls()):
            raise PluginError(f"unknown hook '{caller.name}'{nearest(caller.name, known)}")
    for name in sorted(known - implemented):
        if callable(getattr(plugin, name, None)):
            raise PluginError(f"'{name}' is not marked with @hookimpl")
    if not implemented:
        raise PluginError(f"it implements no hook (known: {', '.join(sorted(known))})")
    return manager


def callers(manager: pluggy.PluginManager) -> list[pluggy.HookCaller]:
    """Return the callers of all hooks that the plugin implements."""
    return [caller for plugin in manager.get_plugins() for caller in manager.get_hookcallers(plugin) or ()]


def offered(manager: pluggy.PluginManager) -> Iterator[tuple[str, Any]]:
    """Yield kind and record of everything the plugin offers, each one fit for use.

    Raises:
        PluginError: something offered is not what the hook demands.
        BaseException: whatever the hook raises.
    """
    for kind, (hook, wanted) in OFFERING.items():
        caller: pluggy.HookCaller = getattr(manager.hook, hook)
        results = caller()
        if caller.get_hookimpls() and not results:
            raise PluginError(f"hook '{hook}' returned None, expected an iterable of {wanted.__name__}")
        for result in results:
            if not isinstance(result, Iterable):
                got = type(result).__name__
                raise PluginError(f"hook '{hook}' returned {got}, expected an iterable of {wanted.__name__}")
            for record in result:
                if not isinstance(record, wanted):
                    got = type(record).__name__
                    raise PluginError(f"hook '{hook}' offered {got}, expected {wanted.__name__}")
                _verify(kind, record)
                yield kind, record


def _verify(kind: str, record: Any) -> None:
    if not (isinstance(record.name, str) and _NAME.fullmatch(record.name)):
        raise PluginError(f"the name of {kind} '{record.name}' is not lower-case letters, digits, '-' and '_'")
    # A class without dataclass parameters is no dataclass; the attribute is what `dataclasses` itself looks at.
    if not getattr(getattr(record.config, "__dataclass_params__", None), "frozen", False):
        raise PluginError(f"config of {kind} '{record.name}' is not a frozen dataclass")
    if not callable(record.build):
        raise PluginError(f"build of {kind} '{record.name}' cannot be called")
    inspect.type_info(record.config)  # raises for a field whose type no setting can have
