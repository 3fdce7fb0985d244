"""What the sink asks of BigQuery, in its own words: tables, uploads, queries, jobs by name.

Every method is one or few requests that are tried once; who calls decides what to try again. Errors of Google's
libraries end here.
"""
# mypy: untyped-calls-exclude=google

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import requests
from google.api_core.exceptions import (
    Conflict,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RetryError,
    from_http_response,
)
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.resumable_media import InvalidResponse, RetryStrategy
from google.resumable_media.requests import ResumableUpload

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.access import Access, access_of, auth_fault
from cfaudit_bigquery.body import Gzipped
from cfaudit_bigquery.bounded import BoundedSession
from cfaudit_bigquery.faults import DestinationNames, PassingError, fault, invalid_words
from cfaudit_export import LoadUnknownError, SinkError

__all__ = ["AlreadyThereError", "ChangedMeanwhileError", "Job", "TableService"]

Job = bigquery.LoadJob | bigquery.QueryJob

_CHUNK_BYTES = 8 << 20
_TIMEOUT_SECONDS = 120.0  # for connecting, and for each silence of the server after that
_EXCHANGE_SECONDS = 300.0  # in all; a chunk gets through at 30 KB a second
_GRACE_SECONDS = 60.0  # so long after its time limit a job may still show as running
_ONCE = Retry(predicate=lambda _error: False)


class AlreadyThereError(Exception):
    """A job or table of this name is there already."""


class ChangedMeanwhileError(Exception):
    """Another client changed the table since it was read."""


class _StillRunningError(Exception):
    pass


class TableService:
    """BigQuery, for one table. Connects when it is first asked something.

    Attributes:
        table: full name of the table, `project.dataset.table`; known once connected.
        place: what error messages call it.
    """

    def __init__(self, config: BigQueryConfig) -> None:
        self._config = config

    @cached_property
    def table(self) -> str:
        """Return the full name of the table."""
        name = self._config.table
        return name if self._config.table.count(".") > 1 else f"{self._access.project}.{name}"

    @cached_property
    def place(self) -> DestinationNames:
        """Return what error messages call the destination."""
        return DestinationNames(self._access.project, self._config.table.rpartition(".")[0])

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        for name in ("_client", "_session"):
            if opened := self.__dict__.pop(name, None):
                opened.close()

    # -- tables -----------------------------------------------------------------------------------------

    def get_table(self, name: str) -> bigquery.Table | None:
        """Return a table, None when there is none."""
        with self._explained():
            try:
                return self._client.get_table(name, retry=_ONCE, timeout=_TIMEOUT_SECONDS)
            except NotFound as error:
                _require_own_word(error)
                return None

    def create_table(self, table: bigquery.Table) -> bigquery.Table:
        """Make a table.

        Raises:
            AlreadyThereError: there is one of this name.
        """
        with self._explained():
            try:
                return self._client.create_table(table, retry=_ONCE, timeout=_TIMEOUT_SECONDS)
            except Conflict as error:
                raise AlreadyThereError from error

    def set_schema(self, table: bigquery.Table) -> bigquery.Table:
        """Replace the schema of a table by the one it has here.

        Raises:
            ChangedMeanwhileError: the table is no longer as it was read; nothing was changed.
        """
        with self._explained():
            try:
                return self._client.update_table(table, ["schema"], retry=_ONCE, timeout=_TIMEOUT_SECONDS)
            except PreconditionFailed as error:
                raise ChangedMeanwhileError from error

    def delete_table(self, name: str) -> None:
        """Remove a table if it is there."""
        with self._explained():
            self._client.delete_table(name, retry=_ONCE, timeout=_TIMEOUT_SECONDS, not_found_ok=True)

    def lacking(self, permissions: list[str]) -> list[str]:
        """Return which of these permissions on the table we do not have."""
        with self._explained():
            answer = self._client.test_iam_permissions(self.table, permissions, retry=_ONCE, timeout=_TIMEOUT_SECONDS)
        return [permission for permission in permissions if permission not in answer.get("permissions", [])]

    # -- jobs -------------------------------------------------------------------------------------------

    def get_job(self, job_id: str, location: str | None) -> Job | None:
        """Return a job, None when there is none of this name that we may see; its history ends after half a year.

        Who did not start a job is not shown it, and may be told as little of one that does not exist. Whether a name
        is free is certain only to who takes it.
        """
        with self._explained():
            try:
                job = self._client.get_job(job_id, location=location, retry=_ONCE, timeout=_TIMEOUT_SECONDS)
            except NotFound as error:
                _require_own_word(error)
                return None
            except Forbidden as error:
                _require_own_word(error, "accessDenied")
                return None
        if isinstance(job, Job):
            return job
        raise fault("", 200, f"what was said of job '{job_id}' is not about a job", self.place)

    def start_load(
        self, job_id: str, location: str | None, table: str, body: Gzipped, labels: Mapping[str, str]
    ) -> Job:
        """Send a body and start the job that appends it to a table: every line, or none.

        The job begins to exist with the last byte of the body: one that was cut short leaves nothing.

        Raises:
            AlreadyThereError: there is a job of this name; the body was not used.
        """
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            max_bad_records=0,
            labels={**self._config.labels, **labels},
        )
        config.job_timeout_ms = int(self._config.job_timeout_seconds * 1000)
        load = bigquery.LoadJob(job_id, None, bigquery.TableReference.from_string(table), self._client, config)
        resource = load.to_api_repr()
        resource["jobReference"]["location"] = location
        with self._explained(maybe_done=True):
            try:
                return bigquery.LoadJob.from_api_repr(self._send(resource, body), self._client)
            except Conflict as error:
                raise AlreadyThereError from error

    def start_query(self, job_id: str, location: str | None, sql: str, labels: Mapping[str, str]) -> Job:
        """Start a query.

        Raises:
            AlreadyThereError: there is a job of this name.
        """
        config = bigquery.QueryJobConfig(labels={**self._config.labels, **labels}, use_query_cache=False)
        config.job_timeout_ms = int(self._config.job_timeout_seconds * 1000)
        with self._explained(maybe_done=True):
            try:
                return self._query(sql, config, job_id, location)
            except Conflict as error:
                raise AlreadyThereError from error

    def rehearse(self, sql: str, location: str | None) -> None:
        """Have BigQuery check a statement and the right to run it, and not run it."""
        with self._explained():
            self._query(sql, bigquery.QueryJobConfig(dry_run=True, use_query_cache=False), None, location)

    def wait(self, job: Job) -> None:
        """Return when the job is done, well or not.

        Raises:
            LoadUnknownError: it is not done in the time allowed.
        """
        seconds = self._config.job_timeout_seconds + _GRACE_SECONDS

        def look() -> None:
            if job.state != "DONE":
                with self._explained(maybe_done=True):
                    job.reload(retry=_ONCE, timeout=_TIMEOUT_SECONDS)
            if job.state != "DONE":
                raise _StillRunningError

        polling = Retry(predicate=if_exception_type(_StillRunningError), initial=0.5, maximum=10, timeout=seconds)
        try:
            polling(look)()
        except RetryError as error:
            raise LoadUnknownError(
                f"job '{job.job_id}' still runs after {seconds:g} s; the next run waits for it again"
            ) from error

    def job_fault(self, job: Job) -> Exception:
        """Return the exception to raise for a job that failed."""
        result = job.error_result or {}
        reason, words = str(result.get("reason", "")), str(result.get("message", ""))
        if reason == "invalid":  # what is invalid is often said by quoting it
            words = invalid_words(result, job.errors or [])
        return fault(reason, 0, f"{words} (job '{job.job_id}')", self.place)

    # -- the wire ---------------------------------------------------------------------------------------

    def _send(self, resource: Mapping[str, Any], body: Gzipped) -> dict[str, Any]:
        """Upload as `Client.load_table_from_file` does, but in chunks that do not fill the memory."""
        url = f"{self._access.endpoint}/upload/bigquery/v2/projects/{self._access.project}/jobs?uploadType=resumable"
        upload = ResumableUpload(url, _CHUNK_BYTES)
        # The caller tries again, with one limit for all.
        upload._retry_strategy = RetryStrategy(max_retries=0)  # noqa: SLF001 - the library's own client does so too
        try:
            upload.initiate(
                self._session, body, resource, "application/octet-stream", stream_final=False, timeout=_TIMEOUT_SECONDS
            )
            while not upload.finished:
                answer = upload.transmit_next_chunk(self._session, timeout=_TIMEOUT_SECONDS)
                if not upload.finished and upload.bytes_uploaded != body.tell():
                    raise PassingError(SinkError("BigQuery kept only a part of what was sent; it is sent again"))
        except InvalidResponse as error:
            raise from_http_response(error.response) from error
        return cast(dict[str, Any], answer.json())

    def _query(self, sql: str, config: bigquery.QueryJobConfig, job_id: str | None, location: str | None) -> Job:
        return self._client.query(
            sql, config, job_id=job_id, location=location, retry=_ONCE, job_retry=None, timeout=_TIMEOUT_SECONDS
        )

    @cached_property
    def _access(self) -> Access:
        return access_of(self._config)

    @cached_property
    def _client(self) -> bigquery.Client:
        access = self._access
        options = {"api_endpoint": access.endpoint}
        return bigquery.Client(access.project, access.credentials, _http=self._session, client_options=options)

    @cached_property
    def _session(self) -> BoundedSession:
        return BoundedSession(self._access.credentials, _EXCHANGE_SECONDS)

    @contextmanager
    def _explained(self, *, maybe_done: bool = False) -> Iterator[None]:
        """Turn an error of Google's libraries into one that says what to do.

        Args:
            maybe_done: True when an answer that did not come may have been a yes.
        """
        try:
            yield
        except GoogleAPICallError as error:
            # Not the library's own message: it shows the URL, and that of an upload is a secret.
            words = str(error.errors[0].get("message", "")) if error.errors else f"HTTP status {error.code}"
            raise fault(_reason(error), int(error.code or 0), words, self.place, maybe_done=maybe_done) from error
        except GoogleAuthError as error:
            raise auth_fault(error) from error
        # A KeyError: the library has missed what every answer of BigQuery holds, so that another server answered.
        except (requests.RequestException, ConnectionError, KeyError) as error:
            raise fault("", 503, f"no answer ({type(error).__name__})", self.place, maybe_done=maybe_done) from error


def _require_own_word(error: GoogleAPICallError, reason: str = "notFound") -> None:
    """Take the word that there is none only from BigQuery itself: the 404 of a proxy gives no reason."""
    if _reason(error) != reason:
        raise error


def _reason(error: GoogleAPICallError) -> str:
    """Return BigQuery's word for a fault, empty when it gave none."""
    return str(error.errors[0].get("reason", "")) if error.errors else ""
