"""Batch -> receipt: a sink is asked, and what it says is sorted into had it, not now, and never."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cfaudit_export.core.model import Batch, Intent, Receipt, SinkReport
from cfaudit_export.errors import CfauditError, ExitCode
from cfaudit_export.pipeline.answer import answered, load_into
from cfaudit_export.plugin.interfaces import Sink

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class SinkRun:
    """A sink in a run, and what became of it. Once it fails it is left alone until the next run."""

    name: str
    sink: Sink
    is_known: bool = False  # to take events of the stream, from earlier runs
    redact: Callable[[str], str] = str  # takes the secrets out of a text
    batches: int = 0
    rows: int = 0
    late_rows: int = 0
    quarantined: int = 0
    loaded_bytes: int = 0
    locations: list[str] = field(default_factory=list)
    error: CfauditError | None = None
    anchor: str | None = None
    proof_error: CfauditError | None = None  # of manifests; events are still delivered

    def load(self, batch: Batch) -> Receipt | None:
        """Load the batch; None when the sink cannot take it now."""
        told = replace(batch, taken_before=self.is_known or self.rows > 0)
        receipt = self._ask(lambda: load_into(self.sink, told, self.redact))
        if receipt is not None:
            self.loaded_bytes += batch.path.stat().st_size
        return receipt

    def find(self, intent: Intent) -> Receipt | None:
        """Ask for a batch whose staged file is lost; None when the sink certainly has nothing, or cannot say."""
        return self._ask(lambda: answered(lambda: self.sink.find(intent.batch_id, intent.window)))

    def fail(self, error: CfauditError) -> None:
        """Leave the sink alone from now on."""
        self.error = error
        _LOG.error("sink cannot take the batch", extra={"sink": self.name, "error": str(error)})

    def count(self, receipt: Receipt, late_rows: int) -> None:
        """Count a batch that the sink has answered for."""
        self.batches += 1
        self.rows += receipt.rows
        self.late_rows += late_rows
        self.quarantined += len(receipt.rejected)
        self.locations += receipt.locations
        _LOG.info("batch loaded", extra={"sink": self.name, "batch": receipt.batch_id, "rows": receipt.rows})

    def sealed(self, anchor: str) -> None:
        """Tell of a manifest that was written: `<chain>:<sequence>:<sha256>`, which kept elsewhere proves its age."""
        self.anchor, self.proof_error = anchor, None
        _LOG.info("sealed", extra={"sink": self.name, "anchor": anchor})

    def report(self) -> SinkReport:
        """Return what the sink got."""
        error = self.error or self.proof_error
        return SinkReport(
            self.name,
            self.batches,
            self.rows,
            self.late_rows,
            self.quarantined,
            tuple(self.locations),
            str(error) if error else None,
            error.exit_code if error else ExitCode.OK,
            self.loaded_bytes,
            self.anchor,
        )

    def _ask(self, ask: Callable[[], Receipt | None]) -> Receipt | None:
        try:
            return ask()
        except CfauditError as error:
            self.fail(error)
            return None
