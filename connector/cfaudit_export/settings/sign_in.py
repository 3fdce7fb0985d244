"""What can be set about signing in; part of the one table in `options`."""

from __future__ import annotations

from cfaudit_export.settings import values
from cfaudit_export.settings.option import SIGN_IN, Option

SIGN_IN_OPTIONS: tuple[Option, ...] = (
    Option(
        "client_id",
        values.text,
        "OAuth client id, or URL of a client metadata document",
        SIGN_IN,
        "ID",
        ("--client-id",),
        "register a client",
    ),
    Option(
        "client_secret_variable",
        values.variable,
        "variable with the client secret",
        SIGN_IN,
        "ENVVAR",
        ("--client-secret-variable",),
    ),
    Option(
        "client_secret_file",
        values.path,
        "file with the client secret",
        SIGN_IN,
        "FILE",
        ("--client-secret-file",),
    ),
    Option(
        "scope", values.text, "OAuth scope to request", SIGN_IN, "TEXT", ("--scope",), "the scope that the server names"
    ),
    Option(
        "redirect_port",
        values.port,
        "local port for the browser's redirect",
        SIGN_IN,
        "PORT",
        ("--redirect-port",),
        "a free one",
    ),
    Option(
        "grant_days",
        values.days,
        "days that a sign-in lasts, if the server does not say",
        SIGN_IN,
        "DAYS",
        ("--grant-days",),
        "30 at Cloudflare's servers",
    ),
    Option(
        "oauth_resource",
        values.choice("send", "omit"),
        "send the URL of the MCP server with token requests (RFC 8707), or omit it for servers that refuse it",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_registration_scope",
        values.choice("send", "omit"),
        "send the scope when registering a client, or omit it for servers that refuse it",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_pkce",
        values.choice("listed", "always"),
        "require that the server lists PKCE with S256, or use it always",
        SIGN_IN,
        "listed|always",
        default="listed",
    ),
    Option(
        "oauth_origins",
        values.names,
        "other origins at which the authorization server may have endpoints",
        SIGN_IN,
        "URL",
    ),
    Option(
        "keyring",
        values.choice("auto", "off"),
        "keep sign-ins in the system keyring if there is one, or always in a file",
        SIGN_IN,
        "auto|off",
        ("--keyring",),
        "auto",
    ),
)
