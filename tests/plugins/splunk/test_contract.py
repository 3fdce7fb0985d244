from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, Sink, SinkError
from cfaudit_export.testing import SinkContract, SinkTarget


class TestContract(SinkContract):
    at_least_once = True
    acks = False

    @pytest.fixture
    def target(self, splunk: Any, hec: Any, new_sink: Any, events_of: Any) -> SinkTarget:
        def build(**settings: Any) -> Any:
            return new_sink(splunk, acks=self.acks, max_bytes=100_000, **settings)

        def interrupted(*faults: Any) -> Any:
            def load(batch: Batch) -> None:
                splunk.collector.faults.extend(faults)
                with pytest.raises(SinkError):
                    build(retry_seconds=0).load(batch)
                splunk.collector.faults.clear()

            return load

        def honest() -> Any:
            splunk.collector.faults.clear()
            splunk.collector.ack_faults.clear()
            return build()

        def behind(page: Any) -> Any:
            splunk.collector.faults.extend([page] * 100)
            splunk.collector.ack_faults.extend([page] * 100)
            return build(retry_seconds=0)

        pages = [hec.Fault(status=200, keeps=True), hec.Fault(status=404), hec.Fault(status=403)]
        pages += [hec.Fault(status=200, body=body) for body in (b"", b'{"text":"Success"}')]
        return SinkTarget(
            new_sink=honest,
            impostors=tuple(partial(behind, page) for page in pages),
            stored=lambda: events_of(splunk),
            interrupted_loads=(
                interrupted(hec.Fault(hangs_up=True)),
                interrupted(hec.Fault(keeps=True), hec.Fault(hangs_up=True, keeps=True)),
                interrupted(hec.Fault(keeps=True), hec.Fault(keeps=True), hec.Fault(code=9)),
            ),
        )


class TestContractWithAcknowledgement(TestContract):
    acks = True
    many = 3_000  # what is different is per request, and these are enough of them


def test_the_same_batch_again_sends_nothing(splunk: Any, new_sink: Any, tmp_path: Path) -> None:
    """Stronger than the contract asks of a sink that stores at least once."""
    from cfaudit_export.testing import make_batch

    batch = make_batch(tmp_path, rows=500)
    new_sink(splunk).load(batch)
    sent = len(splunk.collector.posted)
    other: Sink = new_sink(splunk)
    assert other.load(batch).already
    assert len(splunk.collector.posted) == sent
