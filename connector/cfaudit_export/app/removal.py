"""A place -> where its files can be changed, and what they are changed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cfaudit_export.app.manifests import open_bucket
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.analysis.removal.record import Work
    from cfaudit_export.analysis.removal.storage import FileStorage
    from cfaudit_export.plugin.registry import Plugins


@contextmanager
def open_work(
    settings: Settings,
    plugins: Plugins,
    place: Location,
    clock: Callable[[], datetime],
    accounts: tuple[str, ...] = (),
    *,
    dry_run: bool = False,
) -> Iterator[Work]:
    """Yield what changes the files of a place: a folder, which is held as by `compact`, or a bucket.

    Args:
        settings: the key, and how to reach S3.
        plugins: what is installed; the S3 sink writes to buckets.
        place: where the files are.
        clock: the time, aware and UTC.
        accounts: only files of these; none for all.
        dry_run: only say what would be done.

    Raises:
        SettingsError: the key cannot be read, or the settings of S3 make no sense.
        LockedError: another process changes files there.
        UsageError: the folder cannot be written.
    """
    from cfaudit_export.analysis.files.holding import held
    from cfaudit_export.analysis.removal.record import Work
    from cfaudit_export.analysis.removal.storage import FolderStorage
    from cfaudit_export.proof.keys import load_key

    key_file = settings.integrity.key_file
    keys = (load_key(key_file),) if key_file else ()
    with ExitStack() as stack:
        storage: FileStorage
        if place.is_local:
            root = Path(place.root)
            stack.enter_context(held(root))
            storage = FolderStorage(root)
        else:
            storage = cast("FileStorage", open_bucket(settings, plugins, place.shown, stack))
        yield Work(storage, keys, clock, accounts, dry_run)
