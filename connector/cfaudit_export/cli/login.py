"""The commands `login` and `logout`, and what others tell of a sign-in that comes to its end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.resolve import resolve_source, server_url_of
from cfaudit_export.auth import grant_store, header_values
from cfaudit_export.auth.token import VARIABLE
from cfaudit_export.cli.command import command
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.plurals import counted
from cfaudit_export.errors import AccessError, ExitCode, SettingsError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS, SIGN_IN

if TYPE_CHECKING:
    from cfaudit_export.auth.grants import Grant


_WHERE = ("source", "server_url", "header", "insecure_http", "profile", "state_dir")
_LOGIN_EPILOG = """
Examples:
  cfaudit-export login
  cfaudit-export login --no-browser
  cfaudit-export login --server-url https://gateway.example.com/mcp
"""
_LOGOUT_EPILOG = """
Example:
  cfaudit-export logout
"""


@command(*_WHERE, SIGN_IN, LOGS, epilog=_LOGIN_EPILOG)
def login(
    shell: Shell,
    settings: Settings,
    *,
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="print the URL to open in any browser, and read the answer that you paste"),
    ] = False,
) -> int:
    """Sign in at the server with a browser.

    Stores the sign-in, which every run renews. At Cloudflare's servers it lasts 30 days. An API token, if one is
    set, is used instead of it.
    """
    import webbrowser

    from cfaudit_export.auth.discovery import Dialect
    from cfaudit_export.auth.registration import read_client_secret
    from cfaudit_export.auth.signin import SignIn, sign_in

    terminal = shell.terminal
    if not no_browser and not terminal.is_interactive:
        raise AccessError("no terminal, so no browser is opened; run login in a terminal, or with --no-browser")
    settings = settings.using(settings.candidates[-1])
    config = _server(shell, settings)
    secret = read_client_secret(
        variable=settings.client_secret_variable, file=settings.client_secret_file, environ=shell.environ
    )
    headers = header_values(settings.header, shell.environ)
    for one in (secret, *headers.values()):
        terminal.redaction.hide(one)
    options = SignIn(
        server_url=config.server_url,
        profile=settings.profile,
        client_id=settings.client_id,
        client_secret=secret,
        scope=settings.scope or getattr(config, "scope", None),
        headers=headers,
        redirect_port=settings.redirect_port,
        grant_days=settings.grant_days,
        insecure_http=config.insecure_http,
        dialect=Dialect(
            names_resource=settings.oauth_resource == "send",
            registers_scope=settings.oauth_registration_scope == "send",
            lists_pkce=settings.oauth_pkce == "listed",
            origins=settings.oauth_origins,
        ),
    )
    grant = sign_in(
        options,
        grant_store(settings, to_write=True),
        clock=shell.clock,
        tell=terminal.say,
        open_browser=None if no_browser else webbrowser.open,
        ask=terminal.ask,
        hide=terminal.redaction.hide,
    )
    terminal.say(described(grant, shell.clock()))
    if shell.environ.get(VARIABLE) or settings.token_file or settings.token_keyring:
        terminal.say("an API token is set too; it is used instead of this sign-in")
    return ExitCode.OK


@command(*_WHERE, LOGS, epilog=_LOGOUT_EPILOG)
def logout(shell: Shell, settings: Settings) -> int:
    """Revoke a sign-in and delete it here."""
    from cfaudit_export.auth.signout import sign_out

    settings = settings.using(settings.candidates[-1])
    url, terminal = _server(shell, settings).server_url, shell.terminal
    found = sign_out(grant_store(settings), url, settings.profile, tell=terminal.say, hide=terminal.redaction.hide)
    terminal.say(f"signed out at '{url}'" if found else f"there is no sign-in at '{url}'")
    return ExitCode.OK


def described(grant: Grant, now: datetime) -> str:
    """Return in one line where the user is signed in, and for how long."""
    from cfaudit_export.auth.grants import grant_days_left

    place, left = f"signed in at '{grant.resource}'", grant_days_left(grant, now)
    if left is None or grant.grant_expires_at is None:
        return f"{place}, until the server ends it"
    return f"{place} until {grant.grant_expires_at:%Y-%m-%d}, {counted(round(left), 'day')} left"


def _server(shell: Shell, settings: Settings) -> Any:
    """Return the settings of the source, which has a server."""
    from cfaudit_export.plugin.registry import load_plugins

    source = resolve_source(settings, load_plugins(environ=shell.environ))
    if not server_url_of(source):
        raise SettingsError(f"source '{settings.source}' has no server to sign in at")
    return source[1]
