"""A connection of Airflow -> the settings of an export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from cfaudit_airflow import CONNECTION_TYPE
from cfaudit_export import CfauditError

if TYPE_CHECKING:
    from cfaudit_export.api import Assembly, Redaction

TOKEN = "CLOUDFLARE_API_TOKEN"  # noqa: S105  # the name of the variable


class CloudflareAuditHook(BaseHook):  # type: ignore[misc]  # typed only where Airflow is installed
    """Prepare exports with what a connection says.

    The password is the API token, the host the URL of the server or gateway, the extra any settings as in the TOML
    file, with or without dots: `{"state_dir": "/mnt/cfaudit", "sinks.parquet.path": "/mnt/audit"}`. A key `config`
    names a TOML file. All are optional; what is not said comes from the worker's environment.

    Args:
        cloudflare_audit_conn_id: id of the connection; None for the worker's environment alone.
    """

    conn_name_attr = "cloudflare_audit_conn_id"
    default_conn_name = "cloudflare_audit_default"
    conn_type = CONNECTION_TYPE
    hook_name = "Cloudflare audit logs"

    def __init__(self, cloudflare_audit_conn_id: str | None = default_conn_name) -> None:
        super().__init__()
        self.cloudflare_audit_conn_id = cloudflare_audit_conn_id
        self._redaction: Redaction | None = None

    def redact(self, text: str) -> str:
        """Return a text without the secrets that `prepare`, and what it returned, have met so far.

        Airflow masks whole secrets in its logs; here also parts of one are hidden where a text was cut.
        """
        return self._redaction(text) if self._redaction else text

    def prepare(
        self,
        flags: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        config: str | None = None,
        *,
        needs_sink: bool = True,
    ) -> Assembly:
        """Return what exports are made of; nothing is connected yet.

        Args:
            flags: as on the command line, by the name of the option.
            options: further settings, before those of the connection.
            config: a TOML file, before that of the connection.
            needs_sink: whether exports are to follow, and events to go somewhere.

        Raises:
            CfauditError: the settings do not fit, or there is no credential.
        """
        from cfaudit_export.api import prepare  # DAG files are parsed all the time

        given, environ, hide = self._given(flags, options, config)
        return prepare(given, environ=environ, clock=_now, hide=hide, needs_sink=needs_sink, is_run=needs_sink)

    def settings(
        self, options: Mapping[str, Any] | None = None, config: str | None = None
    ) -> tuple[Any, dict[str, str], Callable[[str], None]]:
        """Return the settings, the variables that go with them, and what is to be told of secrets.

        Raises:
            CfauditError: the settings do not fit.
        """
        from cfaudit_export.api import read_settings

        given, environ, hide = self._given(None, options, config)
        return read_settings(given, environ=environ, clock=_now, hide=hide), environ, hide

    def _given(
        self, flags: Mapping[str, Any] | None, options: Mapping[str, Any] | None, config: str | None
    ) -> tuple[Any, dict[str, str], Callable[[str], None]]:
        from cfaudit_export.api import Given, Redaction

        self._redaction = redaction = Redaction()

        def hide(secret: str) -> None:
            mask_secret(secret)
            redaction.hide(secret)

        environ = dict(os.environ)
        said: dict[str, Any] = {}
        if self.cloudflare_audit_conn_id:
            connection = self.get_connection(self.cloudflare_audit_conn_id)
            said = dict(connection.extra_dejson)
            if connection.password:
                environ[TOKEN] = connection.password
            if connection.host:
                said = {"server_url": connection.host, **said}
        file = config or said.pop("config", None)
        pairs = [f"{key}={value}" for table in (said, options or {}) for key, value in _flat(table)]
        given = Given(Path(file) if file else None, pairs, dict(flags or {}))
        return given, environ, hide

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the server accepts the token, for the button in the list of connections."""
        from cfaudit_export.api import accounts

        try:
            found = accounts(self.prepare(needs_sink=False))
        except CfauditError as error:
            return False, self.redact(str(error))
        return True, f"accounts: {', '.join(found)}"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a table as texts, by their dotted keys."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _now() -> datetime:
    return datetime.now(UTC)
