"""What is in the place of a file is looked at before it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cfaudit_export.core.disk import read_file, require_file


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10_000_000_000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (Path.mkdir, "Is a directory"),
        (large, "larger than 1,000 bytes"),
        (lambda path: path.write_bytes(b"x" * 1_001), "larger than 1,000 bytes"),
    ],
)
def test_what_would_never_end_is_not_read(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "one"
    make(path)
    with pytest.raises(OSError, match=words):
        read_file(path, 1_000)
    if "larger" not in words:
        with pytest.raises(OSError, match=words):
            require_file(path)


def test_a_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 1_000)
    (tmp_path / "two").symlink_to("one")
    assert read_file(tmp_path / "two", 1_000) == b"x" * 1_000
    require_file(tmp_path / "two")
