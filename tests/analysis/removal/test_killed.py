"""`retention` and `erase`, killed before any line that changes files: the next run completes them, and nothing is lost.

The default is a small sample of lines; `pytest -m soak` kills at every one.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export.analysis.removal.person import Person, find_person
from cfaudit_export.analysis.removal.storage import ASIDE
from cfaudit_export.proof.keys import write_key

EVE = "eve@example.com"


class Killed:
    """Changes files in processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def at_line(self, what: str, folder: Path, line: int) -> bool:
        """Say whether it died there; it had ended else."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{what}\t{folder}\t{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer in ("killed", "done"), "the process died"
        return answer == "killed"


@pytest.fixture
def killed() -> Iterator[Killed]:
    words = [sys.executable, str(Path(__file__).with_name("removing_child.py"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Killed(process)
        assert process.stdin
        process.stdin.close()


@pytest.mark.parametrize("lines", ["some", pytest.param("every", marks=pytest.mark.soak)])
@pytest.mark.parametrize("what", ["erase", "retention"])
def test_killed_at_any_line_it_is_completed_by_the_next_run(
    what: str, lines: str, killed: Killed, export: Any, copied: Any, tmp_path: Path
) -> None:
    write_key(export.keys[0], tmp_path / "signing.pem")
    emails = [EVE if row % 3 else "other@example.com" for row in range(9)]
    for number in range(4):
        export.seal(export.store(number, rows=9, actor_email=emails))
    most, end = 1_000_000, copied(export, "end")
    low, high = 0, 4_000  # how many lines there are
    while low < high and lines == "some":
        middle = (low + high) // 2
        shutil.rmtree(end.root)
        shutil.copytree(export.root, end.root)
        low, high = (middle + 1, high) if killed.at_line(what, end.root, middle) else (low, middle)
    chosen = range(most) if lines == "every" else sorted(random.Random(f"{what} 20261201").sample(range(low), 8))
    for line in chosen:
        copy = copied(export, f"copy-{line}")
        if not killed.at_line(what, copy.root, line):
            assert line > 200
            break
        found = copy.verify()
        assert "INVALID" not in "\n".join(found.lines), (line, list(found.lines))
        assert not killed.at_line(what, copy.root, most)
        found = copy.verify()
        assert found.exit_code == 0, (line, list(found.lines))
        assert not list((copy.root / ASIDE).glob("*"))
        left = [pq.read_table(path, partitioning=None) for path in copy.files()]
        assert sum(map(len, left)) == (36 if what == "erase" else 18), line
        assert what != "erase" or not any(find_person(one, Person((EVE,))).count for one in left), line
        shutil.rmtree(copy.root)
