"""The Parquet sink against bare writes of the same events by pyarrow, on the same disk, in the same run.

    python tests/benchmarks/bench_parquet.py [--events 1000000] [--small 200000] [--rounds 3] [--shape six-field]

The bare side reads each staged batch and writes it as one file with pyarrow's own defaults and zstd; the sink also
splits by day, sorts out encodings, syncs and renames. Prints wall, CPU and peak memory, and the ratios. Nothing here
fails a test: the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from uuid import uuid4

from measure import in_turns
from of_sinks import begin, in_child, stage, staged, tell


def load(folder: str, out: str, events: int) -> None:
    """Load staged batches with the sink."""
    from cfaudit_parquet import ParquetConfig
    from cfaudit_parquet.sink import ParquetSink

    sink = ParquetSink(ParquetConfig(path=out))
    for batch in staged(folder, events):
        assert sink.load(batch).rows == batch.rows
    sink.close()


def write(folder: str, out: str, events: int) -> None:
    """Write staged batches as pyarrow's documentation does."""
    import pyarrow.parquet as pq

    from cfaudit_export import read_batch

    Path(out).mkdir()
    for batch in staged(folder, events):
        pq.write_table(read_batch(batch), Path(out, f"{batch.batch_id}.parquet"), compression="zstd")


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Measure."""
    where = folder / "staged"
    where.mkdir()
    in_child(__file__, "stage", where, options.shape, options.events)
    costs = in_turns(
        options.rounds,
        bare=lambda: in_child(__file__, "write", where, folder / uuid4().hex, options.events),
        sink=lambda: in_child(__file__, "load", where, folder / uuid4().hex, options.events),
        small=lambda: in_child(__file__, "load", where, folder / uuid4().hex, options.small),
    )
    tell(f"{options.events} events, {options.shape}, into Parquet", options, costs)


if __name__ == "__main__":
    begin(__doc__, compare, stage=stage, load=load, write=write)
