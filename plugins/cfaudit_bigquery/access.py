"""Settings -> who asks, for which project, and where."""
# mypy: untyped-calls-exclude=google

from __future__ import annotations

from dataclasses import dataclass, field

from google.auth import default as application_default
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.bigquery import Client
from google.oauth2 import service_account

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.faults import PassingError, one_line
from cfaudit_export import SinkError, SinkRefusedError

_SCOPES = list(Client.SCOPE)


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach BigQuery.

    Attributes:
        credentials: who asks.
        project: where jobs run, and where a table is that names no project.
        endpoint: the URL that all paths follow.
    """

    credentials: Credentials = field(repr=False)
    project: str
    endpoint: str


def access_of(config: BigQueryConfig) -> Access:
    """Return what the settings, and the environment where they are silent, say.

    Raises:
        SinkRefusedError: there are no credentials, or no project.
        PassingError: they are not available now.
    """
    credentials, default_project = _credentials(config)
    in_table = config.table.rpartition(".")[0].rpartition(".")[0]
    project = config.project or default_project or in_table
    if not project:
        raise SinkRefusedError("no project to run jobs in; set project, or write table as 'project.dataset.table'")
    endpoint = config.endpoint_url or f"https://bigquery.{credentials.universe_domain}"
    return Access(credentials, project, endpoint.rstrip("/"))


def auth_fault(error: GoogleAuthError) -> Exception:
    """Return the exception to raise where a token could not be had."""
    words = one_line(str(error))
    # The library calls a connection that failed neither retryable nor by its name, where a metadata server was asked.
    if error.retryable or isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
        return PassingError(SinkError(f"no access token for BigQuery now: {words}"))
    return SinkRefusedError(
        f"no credentials that Google accepts: {words}; run 'gcloud auth application-default login', or set"
        " credentials_file"
    )


def _credentials(config: BigQueryConfig) -> tuple[Credentials, str | None]:
    """Return the credentials, and the project that they belong to."""
    if (config.endpoint_url or "").startswith("http://"):
        return AnonymousCredentials(), None
    if file := config.credentials_file:
        try:
            key = service_account.Credentials.from_service_account_file(str(file), scopes=_SCOPES)
        except (OSError, ValueError) as error:
            # The library's message is left out: it might quote the file.
            raise SinkRefusedError(f"'{file}' is not the key of a service account that can be read") from error
        return key, key.project_id
    try:
        return application_default(scopes=_SCOPES)
    except GoogleAuthError as error:
        raise auth_fault(error) from error
