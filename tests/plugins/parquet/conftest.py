from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import Batch
from cfaudit_export.core.model import to_ms
from cfaudit_export.schema import schema


class KilledLoads:
    """Loads batches in processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def at_step(self, batch: Batch, root: Path, step: int) -> bool:
        """Kill the load before its line number `step`; return False when it was done by then."""
        return self._ask(batch, root, step=step)

    def after(self, batch: Batch, root: Path, seconds: float) -> bool:
        """Kill the load after some time; return False when it was done by then."""
        return self._ask(batch, root, seconds=seconds)

    def _ask(self, batch: Batch, root: Path, step: int | None = None, seconds: float | None = None) -> bool:
        order = {
            "batch_id": batch.batch_id,
            "account_id": batch.stream.account_id,
            "source": batch.stream.source,
            "window": [to_ms(batch.window.since), to_ms(batch.window.before)],
            "rows": batch.rows,
            "path": str(batch.path),
            "root": str(root),
            "step": step,
            "seconds": seconds,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the loading process died"
        return bool(json.loads(answer))


@pytest.fixture(scope="module")
def killed_loads() -> Iterator[KilledLoads]:
    script = Path(__file__).with_name("loading_children.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield KilledLoads(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)


class Tree:
    """The folder a sink writes to, as a reader and as the file system see it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def visible(self) -> list[Path]:
        return sorted(self.root.glob("**/*.parquet"))

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def events(self) -> pa.Table:
        tables = [pq.read_table(path, partitioning=None) for path in self.visible()]
        return (
            pa.concat_tables([schema().remove_metadata().empty_table(), *tables], promote_options="default")
            if tables
            else schema().empty_table()
        )

    def ids(self) -> list[str]:
        return sorted(self.events()["event_id"].to_pylist())


@pytest.fixture(scope="session")
def tree_type() -> type[Tree]:
    return Tree


@pytest.fixture
def tree_of(tmp_path: Path) -> Callable[[int], Tree]:
    return lambda number: Tree(tmp_path / f"out-{number}")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "out")
