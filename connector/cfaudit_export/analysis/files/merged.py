"""Which files a merged one stands for: those that it names, and whose every row it holds.

The note of a merged file is a claim, and a user who can write a file can write a note. So nothing is skipped or
removed for the sake of a note alone: the rows are compared, all columns of them. Both files are there only between two
steps of `compact`, or after a crash between them, so that this costs nothing otherwise.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from cfaudit_export.analysis.files.engine import Limits, import_duckdb, open_engine
from cfaudit_export.analysis.files.footers import DataFile
from cfaudit_export.analysis.files.location import Location
from cfaudit_export.analysis.files.scan import FilePiece, Reading, rows_of

_LOG = logging.getLogger(__name__)


class Merges:
    """Compares merged files with those that they name; each only once."""

    def __init__(self, place: Location, limits: Limits) -> None:
        self._place = place
        self._limits = limits
        self._compared: dict[tuple[str, ...], bool] = {}
        self.refused: set[str] = set()
        """Names of merged files that do not hold what they name."""

    def replaced(self, files: Iterable[DataFile]) -> set[str]:
        """Return the names of the files whose rows a merged one holds.

        Raises:
            OSError: files cannot be read, or are gone since they were listed.
        """
        folders = defaultdict(list)
        for one in files:
            folders[one.folder].append(one)
        gone: dict[str, str] = {}
        for members in folders.values():
            merged = [one for one in members if one.is_merged] if len(members) > 1 else ()
            # Fewer rows first, so that what was merged twice is replaced by what it was merged into.
            for one in sorted(merged, key=lambda one: (one.rows, one.found.name)):
                named = _named(one, members, gone)
                if any(not _is_meant(other, one) for other in named):
                    self._refuse(one, named, "a merged file names a file of another content; both are read")
                elif named and self._holds(one, named):
                    gone |= dict.fromkeys((other.found.name for other in named), one.found.name)
        return set(gone)

    def _holds(self, merged: DataFile, others: Sequence[DataFile]) -> bool:
        key = (merged.found.path, *(one.found.path for one in others))
        if key not in self._compared:
            self._compared[key] = self._compare(merged, others)
            if not self._compared[key]:
                self._refuse(
                    merged, others, "a merged file does not hold the rows of files that it names; all are read"
                )
        return self._compared[key]

    def _refuse(self, merged: DataFile, others: Iterable[DataFile], why: str) -> None:
        if merged.found.name not in self.refused:
            self.refused.add(merged.found.name)
            names = ", ".join(one.found.name.rpartition("/")[2] for one in others)
            _LOG.warning(why, extra={"file": merged.found.name, "named": names})

    def _compare(self, merged: DataFile, others: Sequence[DataFile]) -> bool:
        """Say whether every row of the others is in the merged file, as often as it is in them."""
        if sum(one.rows for one in others) > merged.rows:
            return False
        try:
            columns = pa.unify_schemas([one.columns for one in (merged, *others)], promote_options="permissive")
        except pa.ArrowException:  # columns of one name and several types, or twice in a file
            return False
        failures: list[Exception] = []
        reading = Reading(self._limits.group_bytes, failed=failures.append)
        with open_engine(self._limits) as connection:
            for name, some in (("held", [merged]), ("named", others)):
                pieces = [FilePiece(one.found) for one in some]
                connection.register(name, rows_of(self._place, pieces, columns, reading))
            try:
                missing = connection.execute("FROM named EXCEPT ALL FROM held LIMIT 1").fetchone()
            except import_duckdb().Error as error:
                self._require_files([merged, *others], failures)
                extra = {"file": merged.found.name, "error": str(error).partition("\n")[0]}
                _LOG.warning("a merged file cannot be compared with the files that it names", extra=extra)
                return False
        return missing is None

    def _require_files(self, files: Iterable[DataFile], failures: Iterable[Exception]) -> None:
        """Raise what kept files from being read, if that was not what they hold."""
        for error in failures:
            if not isinstance(error, pa.ArrowException):
                raise error
        for one in files if self._place.is_local else ():
            Path(one.found.path).stat()


def _named(merged: DataFile, members: Iterable[DataFile], gone: Mapping[str, str]) -> list[DataFile]:
    """Return the files that a merged one names, without those that are replaced already."""
    said, above = merged.merged or {}, _above(merged.found.name, gone)
    return [
        one
        for one in members
        if one.found.name.rpartition("/")[2] in said and one.found.name not in gone and one.found.name not in above
    ]


def _above(name: str, gone: Mapping[str, str]) -> set[str]:
    """Return a file and those that it is replaced by: none of them is replaced by it."""
    above = {name}
    while name in gone:
        name = gone[name]
        above.add(name)
    return above


def _is_meant(one: DataFile, merged: DataFile) -> bool:
    """Say whether a file is the one of that name which was merged; older notes say no more than the name."""
    said = (merged.merged or {})[one.found.name.rpartition("/")[2]]
    return said.get("rows", str(one.rows)) == str(one.rows) and said.get("footer_sha256", one.digest) == one.digest
