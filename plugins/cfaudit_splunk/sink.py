"""Batch -> Splunk, at least once.

Splunk keeps what it is given and cannot tell what it was given before. So the sink keeps track itself, in a file
beside the staged batch: see `progress` for what is kept, `deliver` for when an event may be there twice.
"""

from __future__ import annotations

import os
import random
import ssl
import time
import uuid
from functools import cached_property
from importlib.metadata import version

import httpx2

from cfaudit_export import Batch, LoadUnknownError, Receipt, SinkRefusedError, Window
from cfaudit_export.http.exchange import open_client
from cfaudit_splunk.collector import Collector, Timing
from cfaudit_splunk.config import SplunkConfig
from cfaudit_splunk.deliver import BatchDelivery
from cfaudit_splunk.events import EventRequests
from cfaudit_splunk.progress import BatchProgress

_CONNECT_SECONDS = 10.0


class SplunkSink:
    """Sends batches to the HTTP Event Collector of a Splunk. Fits `cfaudit_export.Sink`."""

    def __init__(self, config: SplunkConfig, timing: Timing | None = None) -> None:
        self._config = config
        self._timing = timing or Timing(time.monotonic, time.sleep, random.random)

    def check(self) -> str:
        """Prove that the token is good and the queues have room, without an event; as `Sink.check`.

        Whether the token may write to the index cannot be seen without writing to it.
        """
        return "; ".join(self._collector.check()) + "; no event was sent"

    def load(self, batch: Batch) -> Receipt:
        """Send what Splunk is not known to have of the batch; as `Sink.load`, but at least once."""
        destination = (*sorted(self._config.bases), self._config.index or "")
        with BatchProgress(batch, destination) as progress:
            already = not progress.missing()
            if not already:
                events = EventRequests(batch.path, self._config)
                BatchDelivery(
                    events,
                    progress,
                    self._collector,
                    self._config,
                    self._timing,
                    refused_before=batch.refused_before,
                    taken_before=batch.taken_before,
                ).run()
            rejected = progress.rejected
        return Receipt(batch.batch_id, batch.rows - len(rejected), self._config.bases, already, rejected)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        """Say that Splunk cannot tell, or None where the settings prefer that to stopping; as `Sink.find`."""
        if self._config.resend_lost:
            return None
        raise LoadUnknownError(
            f"the staged file of batch '{batch_id}' is lost and splunk cannot tell whether it has the events of"
            f" {window}; search there, or set sinks.splunk.resend_lost = true to send them again: those that it has"
            " already are then stored twice, with the same event_id"
        )

    def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            self._client.close()

    @cached_property
    def _collector(self) -> Collector:
        return Collector(self._config, self._client, self._timing)

    @cached_property
    def _client(self) -> httpx2.Client:
        seconds = self._config.timeout_seconds
        return open_client(
            seconds,
            headers={
                "Authorization": f"Splunk {self._token()}",
                "X-Splunk-Request-Channel": str(uuid.uuid4()),
                "Content-Type": "application/json",
                "User-Agent": f"cfaudit-export/{version('cfaudit-export')}",
            },
            connect_seconds=min(seconds, _CONNECT_SECONDS),
            verify=self._trusted(),
        )

    def _token(self) -> str:
        """Read the token. Never shown."""
        path = self._config.token_file
        where = f"variable {self._config.token_env}" if path is None else f"file '{path}'"
        try:
            token = os.environ.get(self._config.token_env, "") if path is None else path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SinkRefusedError(f"cannot read the token of splunk from {where}: {reason}") from error
        token = token.strip()
        if not token:
            raise SinkRefusedError(f"no token for splunk in {where}; put the token of an HTTP Event Collector there")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SinkRefusedError(f"what is in {where} is not the token of an HTTP Event Collector")
        return token

    def _trusted(self) -> ssl.SSLContext | bool:
        path = self._config.ca_file
        if path is None:
            return True  # what the system trusts
        try:
            return ssl.create_default_context(cafile=path)
        except OSError as error:  # an SSLError is one
            raise SinkRefusedError(f"cannot read certificates from '{path}': {error.strerror or error}") from error
