"""The command `mcp`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.app.archive import location
from cfaudit_export.cli.command import command
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.spoken import local_zone
from cfaudit_export.core.urls import without_secrets
from cfaudit_export.errors import ExitCode, SettingsError, UsageError
from cfaudit_export.settings import Settings, values
from cfaudit_export.settings.options import LOGS
from cfaudit_export.settings.rules import RuleSettings

if TYPE_CHECKING:
    from cfaudit_export.serve.order import ServeOrder
    from cfaudit_export.serve.web import WebAccess

_WEB = "Over HTTP"
_EPILOG = """
Without --http, speaks MCP on stdin and stdout, for a client that starts it.
PLACE is a folder of exported files, or s3://bucket/prefix; by default that of
the sink in the settings. Answers say what of the time asked about was exported,
as far as --state-dir knows it.

Beyond this machine, --http needs --token-file or --oauth-issuer, and a proxy
that speaks TLS in front of it.

Examples:
  cfaudit-export mcp out --state-dir state
  cfaudit-export mcp out --http 127.0.0.1:8080
  cfaudit-export mcp s3://audit/logs --http 0.0.0.0:8080 --token-file token
"""


@command("sink", "state_dir", LOGS, epilog=_EPILOG)
def mcp(
    shell: Shell,
    settings: Settings,
    *,
    place: Annotated[str | None, typer.Argument(help="exported files", metavar="PLACE", show_default=False)] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="serve the client that starts it (default)")] = False,
    http: Annotated[
        str | None, typer.Option("--http", help="address to serve on", metavar="HOST:PORT", rich_help_panel=_WEB)
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="serve this account only; no other exists for clients", metavar="ID")
    ] = None,
    compat: Annotated[
        bool,
        typer.Option("--compat", help="also offer the tool of Cloudflare's Audit Logs server: auditlogs_by_account_id"),
    ] = False,
    no_sql: Annotated[bool, typer.Option("--no-sql", help="do not offer audit_sql")] = False,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file", help="file with the bearer token that clients send", metavar="FILE", rich_help_panel=_WEB
        ),
    ] = None,
    oauth_issuer: Annotated[
        str | None,
        typer.Option(
            "--oauth-issuer", help="accept the tokens of this authorization server", metavar="URL", rich_help_panel=_WEB
        ),
    ] = None,
    oauth_audience: Annotated[
        str | None,
        typer.Option(
            "--oauth-audience",
            help="audience that tokens must name (default: URL of the server)",
            metavar="TEXT",
            rich_help_panel=_WEB,
        ),
    ] = None,
    oauth_jwks_url: Annotated[
        str | None,
        typer.Option(
            "--oauth-jwks-url",
            help="keys of the issuer (default: as its metadata says)",
            metavar="URL",
            rich_help_panel=_WEB,
        ),
    ] = None,
    oauth_scope: Annotated[
        list[str] | None,
        typer.Option(
            "--oauth-scope", help="scope that tokens must have; repeatable", metavar="SCOPE", rich_help_panel=_WEB
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            help="URL by which clients reach the server (default: its address)",
            metavar="URL",
            rich_help_panel=_WEB,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", help="further name of the server; repeatable", metavar="NAME", rich_help_panel=_WEB
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", help="origin of web pages that may ask; repeatable", metavar="URL", rich_help_panel=_WEB
        ),
    ] = None,
) -> int:
    """Serve exported data to AI assistants (MCP).

    Answers from exported files; calls no server, and changes nothing.
    """
    from cfaudit_export.serve.order import ServeOrder

    if http is None and any(
        (token_file, oauth_issuer, oauth_audience, oauth_jwks_url, oauth_scope, public_url, allow_host, allow_origin)
    ):
        raise UsageError("tokens, names and origins are for --http; a client that starts the server needs none")
    if http is not None and stdio:
        raise UsageError("choose either --stdio or --http")
    # Who starts a server for itself means its own days; of callers over HTTP nothing is known.
    zone = "UTC" if http else local_zone(shell.environ)
    if find_spec("duckdb") is None:  # not imported: the first answers need none of it
        raise SettingsError("DuckDB is not installed: pip install 'cfaudit-export[analysis]'")
    if settings.rules != RuleSettings():
        from cfaudit_export.analysis.rules.load import load_rules

        load_rules(settings.rules)  # what is wrong with own rules is for who starts the server, not for who asks it
    order = ServeOrder(settings, _place(settings, place), _account(shell, account), not no_sql, compat, zone)
    if http is None:
        return _standard(shell, order)
    from cfaudit_export.serve.access import read_address, read_token
    from cfaudit_export.serve.web import WebAccess, serve_web

    address = read_address(http)
    token = read_token(Path(token_file)) if token_file else None
    if token:
        shell.terminal.redaction.hide(token)
    access = WebAccess(token, None, public_url, tuple(allow_host or ()), tuple(allow_origin or ()))
    if oauth_issuer:
        access = _issued(access, oauth_issuer, oauth_audience or public_url or address.url, oauth_jwks_url, oauth_scope)
    elif oauth_audience or oauth_jwks_url or oauth_scope:
        raise SettingsError("--oauth-audience, --oauth-jwks-url and --oauth-scope need --oauth-issuer")
    serve_web(
        order, address, access, lambda url: shell.terminal.say(f"serving '{order.data}' at {without_secrets(url)}")
    )
    return ExitCode.OK


def _standard(shell: Shell, order: ServeOrder) -> int:
    from cfaudit_export.cli.streams import ReaderGoneError
    from cfaudit_export.serve.standard import serve_standard

    if sys.stdin.isatty():
        shell.terminal.say("speaking MCP on stdin and stdout, which is for a client; end with Ctrl-D")
    try:
        serve_standard(order, sys.stdin.fileno())
    except BrokenPipeError:
        raise ReaderGoneError from None
    return ExitCode.OK


def _issued(access: WebAccess, issuer: str, audience: str, jwks_url: str | None, scopes: list[str] | None) -> WebAccess:
    from cfaudit_export.serve.jwt import TokenIssuer, require_https

    if access.token is not None:
        raise SettingsError("choose either --token-file or --oauth-issuer")
    require_https("--oauth-issuer", issuer)
    if jwks_url:
        require_https("--oauth-jwks-url", jwks_url)
    return replace(access, issuer=TokenIssuer(issuer, audience, jwks_url, tuple(scopes or ())))


def _place(settings: Settings, place: str | None) -> str:
    """Return where the data is, whichever folder a client starts the server in.

    Raises:
        UsageError: nothing names it, or there is no such folder.
    """
    found = location(settings, place, "cfaudit-export mcp ")
    if found.startswith("s3://"):
        return found
    folder = Path(found).expanduser()
    if not folder.is_dir():
        raise UsageError(f"no folder '{found}'; name that of the exported files, as in: cfaudit-export mcp out")
    return os.path.realpath(folder)


def _account(shell: Shell, account: str | None) -> str | None:
    if account is None:
        return None
    try:
        [found] = values.accounts([account], shell.clock())
    except ValueError as error:
        raise UsageError(f"--account: {error}") from None
    if (found,) == values.ALL_ACCOUNTS:
        return None
    return found
