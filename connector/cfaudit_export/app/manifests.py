"""Settings and sinks -> where the manifests of each sink are kept, and what signs them.

A sink that stores files keeps its manifests beside them. Those of other sinks are kept in `integrity.path`, which is a
folder or a place that the S3 sink can write, or in the state folder.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from cfaudit_export.app.resolve import resolve_sink
from cfaudit_export.errors import SettingsError
from cfaudit_export.plugin.interfaces import Sink
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.pipeline.run_context import ManifestPlace
    from cfaudit_export.plugin.registry import Plugins
    from cfaudit_export.proof.append import ManifestStore

_S3 = "s3://"


@contextmanager
def manifest_places(
    settings: Settings, plugins: Plugins, sinks: Mapping[str, Sink], destinations: Mapping[str, str]
) -> Iterator[dict[str, ManifestPlace]]:
    """Yield where the manifests of sinks are kept, by their names; a sink of which none are wanted is not in there.

    Args:
        settings: what is wanted.
        plugins: what is installed.
        sinks: the sinks, open.
        destinations: where each delivers to, as it names it.

    Raises:
        SettingsError: the key cannot be read, or a place not be used.
        PluginError: manifests are to be in S3, and that sink is missing.
    """
    from cfaudit_export.pipeline.run_context import ManifestPlace
    from cfaudit_export.proof.keys import load_key

    wanted, key_file = settings.integrity.manifests, settings.integrity.key_file
    with ExitStack() as stack:
        if wanted is False:
            yield {}
            return
        keys = (load_key(key_file),) if key_file else ()
        places = {}
        for name, sink in sinks.items():
            is_file_sink = hasattr(sink, "put_manifest")
            if is_file_sink:
                store, location = cast("ManifestStore", sink), destinations.get(name, name)
            elif keys or wanted:
                store, location = _beside(settings, plugins, stack)
            else:
                continue
            held = _held(store, settings.integrity.lock_days)
            if settings.integrity.timestamp_url:
                from cfaudit_export.app.stamp import StampingStore  # which reads manifests, and so is heavy

                held = StampingStore(held, settings.integrity.timestamp_url)
            places[name] = ManifestPlace(held, location, keys, in_sink=is_file_sink, signs_checkpoints=bool(keys))
        yield places


def _beside(settings: Settings, plugins: Plugins, stack: ExitStack) -> tuple[ManifestStore, str]:
    """Return where the manifests of sinks are kept that store no files."""
    from cfaudit_export.proof.chain import FOLDER
    from cfaudit_export.proof.folder import ManifestFolder

    path = settings.integrity.path
    if path is None or not path.startswith(_S3):
        root = settings.state_dir if path is None else Path(path).expanduser()
        return ManifestFolder(root / FOLDER), str(root)
    return cast("ManifestStore", open_bucket(settings, plugins, path, stack)), path


def open_bucket(settings: Settings, plugins: Plugins, url: str, stack: ExitStack) -> Sink:
    """Return the S3 sink for `s3://bucket/prefix`, with its other settings as they are; the stack closes it.

    Raises:
        PluginError: that sink is missing.
        SettingsError: its settings make no sense.
    """
    parts = urlsplit(url)
    table = {**settings.sinks.get("s3", {}), "bucket": parts.netloc, "prefix": f"{parts.path.strip('/')}/".lstrip("/")}
    plugin, config = resolve_sink(settings, plugins, "s3", table)
    sink = plugin.build(config)
    stack.callback(sink.close)
    return sink


def _held(store: Any, lock_days: int | None) -> ManifestStore:
    """Return a store that is a plugin's and may be faulty; one that locks what it keeps, where that is wanted."""
    from cfaudit_export.pipeline.answer import AnsweringStore

    if lock_days is None:
        return AnsweringStore(store)
    if "lock_days" not in inspect.signature(store.put_manifest).parameters:
        raise SettingsError("integrity.lock_days is for manifests in S3; name a place in S3 with integrity.path")
    return AnsweringStore(store, partial(store.put_manifest, lock_days=lock_days))
