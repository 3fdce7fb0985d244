"""A file that a person names for output: there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cfaudit_export.core.durable import replacing
from cfaudit_export.errors import UsageError

_MODE = 0o640  # what is asked of the events is personal data as they are


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the context ends well; else nothing is left of it.

    Raises:
        UsageError: it cannot be written there.
    """
    if path.is_dir() or not path.name:
        raise UsageError(f"cannot write '{path}': it is a folder; name a file in it")
    try:
        with replacing(path, mode=_MODE) as file:
            yield file
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}") from error
