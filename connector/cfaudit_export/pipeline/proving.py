"""A batch that a sink has -> what the next manifest says of it: counts, times and digests, from its staged file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export import read_batch
from cfaudit_export.core.model import Batch, Receipt, Unsealed, Window
from cfaudit_export.errors import StagingError
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256

# What one batch may name of replaced events: the rows themselves name all.
_MOST_REPLACED = 100
_SHORT = ["event_id", "event_time", "fidelity", "replaces"]


def unsealed_of(
    batch: Batch | None, receipt: Receipt, window: Window, *, late_rows: int = 0, with_rows: bool
) -> tuple[Unsealed, ...]:
    """Return what is to be sealed of a batch; nothing where the sink has none of its events.

    Args:
        batch: the batch; None where its staged file is lost.
        receipt: what the sink said of it.
        window: what it completed.
        late_rows: how many of its events came late.
        with_rows: whether to compute the digest of the rows. It is left out of a batch that the sink had already: an
            earlier attempt may have stored the same events with other times of reading.

    Raises:
        StagingError: the staged file cannot be read.
    """
    if not receipt.rows:
        return ()
    late = min(late_rows, receipt.rows)
    if batch is None:
        return (Unsealed(receipt.batch_id, window, receipt.rows, late, files=receipt.files),)
    has_rows = with_rows and not receipt.already
    events = _accepted(batch, receipt, None if has_rows else _SHORT)
    first, last = (at.as_py() for at in pc.min_max(events["event_time"]).values())
    counted = pc.value_counts(events["fidelity"]).to_pylist()
    replacing = events.filter(pc.is_valid(events["replaces"])).slice(0, _MOST_REPLACED)
    return (
        Unsealed(
            batch_id=receipt.batch_id,
            window=window,
            rows=receipt.rows,
            late_rows=late,
            first=first,
            last=last,
            rows_sha256=rows_sha256(leaves(events)) if has_rows else None,
            ids_sha256=ids_sha256(events["event_id"].to_pylist()),
            files=receipt.files,
            fidelity={one["values"]: one["counts"] for one in sorted(counted, key=lambda one: str(one["values"]))},
            replaces=tuple(zip(replacing["replaces"].to_pylist(), replacing["event_id"].to_pylist(), strict=True)),
        ),
    )


def _accepted(batch: Batch, receipt: Receipt, names: list[str] | None) -> pa.Table:
    """Return the events of a batch that the sink took."""
    try:
        events = read_batch(batch)
    except (OSError, pa.ArrowException) as error:
        raise StagingError(f"cannot read the staged batch '{batch.path}': {error}") from error
    if names:
        known = [name for name in names if name in events.column_names]  # versions before had fewer columns
        events = events.select(known)
    if receipt.rejected:
        refused = pa.array([one.event_id for one in receipt.rejected], pa.string())
        events = events.filter(pc.invert(pc.is_in(events["event_id"], refused)))
    return events
