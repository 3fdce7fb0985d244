"""The Parquet sink: batches in, files in hive folders on a local or mounted disk out.

Each UTC day of a batch becomes `PATH/account_id=ID/event_date=YYYY-MM-DD/BATCH.parquet`. A file appears whole or not
at all, and loading a batch again adds nothing. `sink` has the promise and how it is kept, `visible` when files count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cfaudit_export import SinkPlugin, hookimpl

if TYPE_CHECKING:
    from cfaudit_parquet.sink import ParquetSink

__all__ = ["ParquetConfig", "cfaudit_sinks"]


@dataclass(frozen=True, slots=True)
class ParquetConfig:
    """What `[sinks.parquet]` holds.

    Attributes:
        path: folder for the data; made when missing, `~` is the home folder.
        file_mode: who may read new files, as `chmod` has it: the owner (`0600`), a group too (`0640`), or every user of
            the machine (`0644`); folders that are made likewise. The umask may take more away.
    """

    path: str
    file_mode: Literal["0600", "0640", "0644"] = "0640"


@hookimpl
def cfaudit_sinks() -> Iterable[SinkPlugin]:
    """Offer the sink `parquet`."""
    summary = "Parquet files in folders by account and day"
    yield SinkPlugin("parquet", ParquetConfig, _build, summary, destination=_destination)


def _destination(config: ParquetConfig) -> str:
    """Return the folder, whatever ways lead to it."""
    return str(Path(config.path).expanduser().resolve())


def _build(config: ParquetConfig) -> ParquetSink:
    from cfaudit_parquet.sink import ParquetSink  # pyarrow is too heavy for a listing of plugins

    return ParquetSink(config)
