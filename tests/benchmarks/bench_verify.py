"""What proof costs over what was done without it: digests of rows, and `verify` against what `compact` reads.

    python tests/benchmarks/bench_verify.py [--events 1000000] [--small 200000] [--rounds 3] [--shape whole]

Batches are staged and stored before. Digests are those of staged batches, as a run makes them. `read` is what `compact`
does to be sure that it loses nothing: it reads every value of every file once. `verify` compares files and rows with a
signed manifest, and looks for events that are there twice; `quick` does not look at rows. Nothing here fails a test:
the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from measure import in_turns, show, verdict
from of_sinks import begin, in_child, stage, staged

MILLION = 1_000_000


def store(folder: str, out: str, events: int) -> None:
    """Store staged batches, and seal them; half of the key is kept beside them."""
    from cfaudit_export import Window, read_batch
    from cfaudit_export.proof.chain import chain_of, manifest_name
    from cfaudit_export.proof.envelope import wrap
    from cfaudit_export.proof.keys import new_key
    from cfaudit_export.proof.manifest import BatchEntry, Manifest
    from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256
    from cfaudit_export.proof.statement import statement
    from cfaudit_parquet import ParquetConfig
    from cfaudit_parquet.sink import ParquetSink

    sink, key, entries = ParquetSink(ParquetConfig(path=out)), new_key(), []
    for batch in staged(folder, events):
        table = read_batch(batch)
        entries.append(
            BatchEntry(
                batch_id=batch.batch_id,
                window=batch.window,
                rows=batch.rows,
                late_rows=0,
                first=batch.window.since,
                last=batch.window.since,
                rows_sha256=rows_sha256(leaves(table)),
                ids_sha256=ids_sha256(table["event_id"].to_pylist()),
                files=sink.load(batch).files,
            )
        )
    stream = batch.stream
    span = Window(batch.window.since, batch.window.since + timedelta(days=1))
    chain = chain_of(stream.id, "parquet")
    manifest = Manifest(
        kind="seal",
        chain=chain,
        sequence=1,
        previous=None,
        stream=stream,
        sink="parquet",
        location=out,
        sealed_at=datetime(2026, 11, 2, tzinfo=UTC),
        program="benchmark",
        schema_version=1,
        covered=(span,),
        covered_total=(span,),
        batches=tuple(entries),
    )
    path = Path(out, manifest_name(chain, 1))
    path.parent.mkdir(parents=True)
    path.write_bytes(wrap(statement(manifest), [key]))
    Path(out, "audit.pub").write_text(key.public.pem)


def digest(folder: str, events: int) -> None:
    """Make the digests of staged batches."""
    from cfaudit_export import read_batch
    from cfaudit_export.proof.rows import leaves, rows_sha256

    for batch in staged(folder, events):
        rows_sha256(leaves(read_batch(batch)))


def touch(folder: str, events: int) -> None:
    """Read staged batches, and do nothing with them."""
    from cfaudit_export import read_batch

    for batch in staged(folder, events):
        read_batch(batch)["event_raw"].combine_chunks()


def read(out: str) -> None:
    """Read all that is stored as `compact` does."""
    from cfaudit_export.analysis.files.compact import _checksum
    from cfaudit_export.analysis.files.engine import Limits, open_engine
    from cfaudit_export.analysis.files.footers import inspect
    from cfaudit_export.analysis.files.open import open_location
    from cfaudit_export.analysis.files.scan import FilePiece, Reading, rows_of
    from cfaudit_export.schema import schema

    place = open_location(out)
    files, _ = inspect(place, lambda _: True, Limits())
    with open_engine(Limits()) as connection:
        connection.register(
            "files", rows_of(place, [FilePiece(one.found) for one in files], schema(), Reading(Limits().group_bytes))
        )
        assert _checksum(connection, "files")[0]


def verify(out: str, *words: str) -> None:
    """Verify all that is stored."""
    from cfaudit_export.cli import main

    assert main(["verify", "--data", out, "--public-key", f"{out}/audit.pub", *words]) == 0


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Measure."""
    where, out, small = folder / "staged", folder / "out", folder / "small"
    where.mkdir()
    in_child(__file__, "stage", where, options.shape, options.events)
    in_child(__file__, "store", where, out, options.events)
    in_child(__file__, "store", where, small, options.small)

    costs = in_turns(
        options.rounds,
        touch=lambda: in_child(__file__, "touch", where, options.events),
        digest=lambda: in_child(__file__, "digest", where, options.events),
        read=lambda: in_child(__file__, "read", out),
        quick=lambda: in_child(__file__, "verify", out, "--quick"),
        verify=lambda: in_child(__file__, "verify", out),
        verify_small=lambda: in_child(__file__, "verify", small),
    )
    show(f"{options.events} events, {options.shape}", costs)
    made = costs["digest"].cpu - costs["touch"].cpu
    verdict("CPU seconds for the digests of a million rows", made * MILLION / options.events, 20)
    verdict("verify against what compact reads, wall", costs["verify"].wall / costs["read"].wall, 1.5)
    verdict("verify against what compact reads, CPU", costs["verify"].cpu / costs["read"].cpu, 1.5)
    verdict(f"peak memory against {options.small} events", costs["verify"].peak_mb / costs["verify_small"].peak_mb, 1.2)


if __name__ == "__main__":
    begin(__doc__, compare, stage=stage, store=store, digest=digest, touch=touch, read=read, verify=verify)
