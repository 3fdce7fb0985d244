"""The Splunk sink: batches in, events in an index out, through the HTTP Event Collector (HEC). At least once.

config     what can be set
events     staged events -> bodies of requests
replies    what a collector says -> what it means
collector  the endpoints, whose turn it is, and when to try again
progress   what Splunk has of a batch, kept beside it
waiting    requests -> which of them are indexed
deliver    what is missing -> sent, acknowledged or refused
sink       the four methods of a sink
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cfaudit_export import SinkPlugin, hookimpl
from cfaudit_splunk.config import SplunkConfig

if TYPE_CHECKING:
    from cfaudit_splunk.sink import SplunkSink

__all__ = ["SplunkConfig", "cfaudit_sinks"]


@hookimpl
def cfaudit_sinks() -> Iterable[SinkPlugin]:
    """Offer the sink `splunk`."""
    summary = "Splunk, through its HTTP Event Collector; at least once"
    yield SinkPlugin("splunk", SplunkConfig, _build, summary, destination=_destination)


def _destination(config: SplunkConfig) -> str:
    """Return the collectors, in whatever order they are named, and the index."""
    return f"{' '.join(sorted(config.bases))} index {config.index or 'of the token'}"


def _build(config: SplunkConfig) -> SplunkSink:
    from cfaudit_splunk.sink import SplunkSink  # pyarrow and httpx2 are too heavy for a listing of plugins

    return SplunkSink(config)
