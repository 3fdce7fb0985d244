"""The digest by which an edited checkpoint is noticed stays the same while no one edits it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export import Stream, Window
from cfaudit_export.core.intervals import union
from cfaudit_export.core.model import Checkpoint, SinkProgress
from cfaudit_export.pipeline.agreement import after
from cfaudit_export.pipeline.commit import LoadedWindow, cover
from cfaudit_export.pipeline.manifests import Sealed, covered_sha256, following
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.slices import _released
from cfaudit_export.pipeline.transform import Transforms
from cfaudit_export.proof.chain import Link
from cfaudit_export.proof.manifest import Manifest

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
STREAM = Stream("account", "auditlogs")


@dataclass(frozen=True)
class Context:
    stream: Stream = STREAM
    manifests: dict[str, object] = field(default_factory=dict)
    clock: object = staticmethod(lambda: FIRST)
    request: RunRequest = field(default_factory=RunRequest)
    transforms: Transforms = field(default_factory=Transforms)


@dataclass(frozen=True)
class Step:
    """What a run does: deliver with manifests or without, seal, die right after that; or a slice ends."""

    what: Literal["deliver", "deliver without", "seal", "seal and die", "slice"]
    window: Window


windows = st.tuples(st.integers(0, 40), st.integers(1, 9)).map(
    lambda ends: Window(FIRST + timedelta(hours=ends[0]), FIRST + timedelta(hours=ends[0] + ends[1]))
)
steps = st.builds(Step, st.sampled_from(["deliver", "deliver without", "seal", "seal and die", "slice"]), windows)


@given(st.lists(steps, max_size=25), windows)
def test_no_run_and_no_crash_looks_like_an_edit_and_an_edit_does(history: list[Step], more: Window) -> None:
    checkpoint = Checkpoint(STREAM)
    newest: Manifest | None = None
    written: tuple[Manifest, Link] | None = None  # by a run that died before it could say so
    for step in history:
        progress = checkpoint.sinks.get("parquet", SinkProgress())
        if newest:
            assert newest.checkpoint == covered_sha256(progress)
        if step.what != "deliver without" and written:  # each run with manifests begins so
            newest, progress = written[0], replace(progress, proof=after(progress.proof, *written))
            checkpoint = replace(checkpoint, sinks={"parquet": progress})
            written = None
            assert newest.checkpoint == covered_sha256(progress)
        match step.what:
            case "deliver" | "deliver without":
                unsealed = () if step.what == "deliver" else None
                checkpoint = cover([LoadedWindow("parquet", step.window, unsealed=unsealed)], FIRST)(checkpoint)
            case "slice":
                own = Checkpoint(replace(STREAM, slice=step.window), {"parquet": SinkProgress((step.window,))})
                checkpoint = _released(own)(checkpoint)
            case _:
                link = Link(progress.proof.sequence, progress.proof.sha256) if progress.proof.sequence else None
                made = following(Sealed(Context(), checkpoint, "parquet", "chain", "out"), link, None)
                written = made, Link(made.sequence, "0" * 64)
                if step.what == "seal":
                    newest, proof = made, after(progress.proof, *written)
                    written = None
                    checkpoint = replace(checkpoint, sinks={"parquet": replace(progress, proof=proof)})
    progress = checkpoint.sinks.get("parquet", SinkProgress())
    edited = replace(progress, covered=union(*progress.covered, more))
    if newest and edited != progress:
        assert newest.checkpoint != covered_sha256(edited)
