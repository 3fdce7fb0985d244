"""Settings -> the exported data that they name: where it lies, what a question may use, what runs remember of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cfaudit_export.app.resolve import open_store
from cfaudit_export.core.model import Checkpoint, Window
from cfaudit_export.errors import CfauditError, UsageError
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.analysis.answers.coverage import Coverage
    from cfaudit_export.analysis.files.engine import Limits


def location(settings: Settings, data: str | None, given: str = "--data ") -> str:
    """Return where the data is: the place that was given, else where a sink of the settings writes files.

    Args:
        settings: the settings.
        data: the place that was given, None if none was.
        given: how a place is given, for the message.

    Raises:
        UsageError: no option and no setting names it.
    """
    places = sink_places(settings)
    wanted = [name for name in settings.sink if name in places] or list(places)
    if data is None and not wanted:
        raise UsageError(f"name the exported files, as in {given}out or {given}s3://bucket/prefix")
    return data or places[wanted[0]]


def limits(settings: Settings) -> Limits:
    """Return what a question may use of the machine."""
    from cfaudit_export.analysis.files.engine import Limits

    return Limits(settings.sql_memory_mb << 20, settings.sql_threads, settings.sql_spill_mb << 20)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the runs that made the data remember of it.

    Attributes:
        checkpoints: all there are.
        sinks: names of the sinks that may have written the data.
        filters: those of the settings.
    """

    checkpoints: Sequence[Checkpoint]
    sinks: Sequence[str]
    filters: Mapping[str, str]

    def until(self, about: Sequence[str]) -> datetime | None:
        """Return up to when accounts were exported, by default all, None if that is unknown."""
        from cfaudit_export.analysis.answers.coverage import reach

        return reach(self.checkpoints, about, self.sinks, self.filters)

    def coverage(self, period: Window, about: Sequence[str], there: Sequence[str]) -> Coverage:
        """Return what of a period was exported; `there` are the accounts that have files."""
        from cfaudit_export.analysis.answers.coverage import cover

        known = tuple(sorted({one.stream.account_id for one in self.checkpoints}))
        return cover(period, self.checkpoints, about or there or known, self.sinks, self.filters)


def remembered(settings: Settings, environ: Mapping[str, str], place: str, tell: Callable[[str], object]) -> Remembered:
    """Return what is remembered of all streams.

    Args:
        settings: name the checkpoint store.
        environ: variables.
        place: where the data is, as people call it.
        tell: is told in one line what cannot be read, which is then taken as unknown.
    """
    from cfaudit_export.plugin.registry import load_plugins

    sinks = settings.sink or [name for name, where in sink_places(settings).items() if _same(where, place)]
    try:
        store = open_store(settings, load_plugins(environ=environ))
        found = [store.load(stream_id) for stream_id in store.streams()]
    except CfauditError as error:
        tell(f"{error}; the coverage is unknown")
        found = []
    return Remembered([one.checkpoint for one in found if one], sinks, settings.filters)


def sink_places(settings: Settings) -> dict[str, str]:
    """Return where each sink of the settings writes files, if it does."""
    places = {}
    for name, table in settings.sinks.items():
        if isinstance(table.get("path"), str):
            places[name] = table["path"]
        elif isinstance(table.get("bucket"), str):
            prefix = str(table.get("prefix", "")).partition("{")[0].rpartition("/")[0]
            places[name] = f"s3://{table['bucket']}/{prefix}".rstrip("/")
    return places


def _same(one: str, other: str) -> bool:
    if "s3://" in (one[:5], other[:5]):
        return one.rstrip("/") == other.rstrip("/")
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
