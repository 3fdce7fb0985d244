"""The one table of what can be set: command line, variables, TOML file and documentation are made from it."""

from __future__ import annotations

from dataclasses import dataclass

from cfaudit_export.settings import values
from cfaudit_export.sources import AUDITLOGS_FILTERS

PREFIX = "CFAUDIT_"

WHAT = "What to export"
FILTERS = "Only events with"
WHERE = "Where to"
SIGN_IN = "Signing in"
HOW = "How"
LOGS = "Logs"
WATCH = "Watching"

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be set.

    Attributes:
        key: path in the TOML file: `settle_lag`, `filters.actor_email`.
        read: makes the value of what was given.
        help: a phrase for `--help` and the documentation.
        panel: the group it is shown in.
        metavar: what the help shows for the value; empty for a flag without one.
        flags: as on the command line; empty where there is none.
        default: as the documentation shows it.
        repeats: the flag may be given several times; one without a value is counted.
        source_key: where the key is short for one of the chosen source, that one: `sources.NAME.<source_key>`.
    """

    key: str
    read: values.Reader
    help: str
    panel: str
    metavar: str
    flags: tuple[str, ...] = ()
    default: str = ""
    repeats: bool = False
    source_key: str | None = None

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return PREFIX + self.key.upper().replace(".", "__")

    @property
    def name(self) -> str:
        """Return the key as an identifier."""
        return self.key.replace(".", "_")


_FILTERS = {
    "account_name": "name of the account",
    "action_result": "how the action ended",
    "action_type": "sort of action",
    "actor_context": "how the actor signed in",
    "actor_email": "the actor's email address",
    "actor_id": "the actor's id",
    "actor_ip_address": "the actor's IP address",
    "actor_token_id": "id of the token that was used",
    "actor_token_name": "name of the token that was used",
    "actor_type": "sort of actor",
    "audit_log_id": "id of the event",
    "raw_cf_ray_id": "Cloudflare Ray ID of the request",
    "raw_method": "HTTP method of the request",
    "raw_status_code": "HTTP status of the reply",
    "raw_uri": "URI of the request",
    "resource_id": "id of the resource",
    "resource_product": "product of the resource",
    "resource_type": "sort of resource",
    "resource_scope": "scope of the resource",
    "zone_id": "id of the zone",
    "zone_name": "name of the zone",
}
_SHORT_FLAGS = {"action_result": "--result", "actor_context": "--context", "resource_product": "--product"}
_FILTER_READERS: dict[str, tuple[values.Reader, str]] = {
    "actor_email": (values.email, "EMAIL"),
    "raw_status_code": (values.status, "STATUS"),
}


def _filter(name: str, choices: tuple[str, ...] | None) -> Option:
    read, metavar = _FILTER_READERS.get(name, (values.text, "TEXT"))
    if choices is not None:
        read, metavar = values.choice(*choices), "|".join(one for one in choices if one)
    flags = (*([_SHORT_FLAGS[name]] if name in _SHORT_FLAGS else []), "--" + name.replace("_", "-"))
    return Option(f"filters.{name}", read, _FILTERS[name], FILTERS, metavar, flags)


OPTIONS: tuple[Option, ...] = (
    Option(
        "account",
        values.accounts,
        "account to export; several, or 'all' that the credential sees, run one after the other",
        WHAT,
        "ID",
        ("--account",),
        "the one the token sees",
        repeats=True,
    ),
    Option("since", values.moment, "oldest time wanted", WHAT, "TIME", ("--since",), "go on; at first 30d"),
    Option("until", values.moment, "time to stop before", WHAT, "TIME", ("--until",), "now, less the settle lag"),
    Option(
        "slice",
        values.switch,
        "export from since to until beside other slices of the account",
        WHAT,
        "",
        ("--slice",),
    ),
    Option(
        "source",
        values.text,
        "where events are read from; auto: codemode where the credential can use it, else auditlogs",
        WHAT,
        "NAME",
        ("--source",),
        "auto",
    ),
    Option(
        "fill_gaps_from",
        values.text,
        "second source, asked for what the first one cannot read",
        WHAT,
        "NAME",
        ("--fill-gaps-from",),
        "gaps stay",
    ),
    Option(
        "server_url",
        values.url,
        "MCP server or gateway of the source",
        WHAT,
        "URL",
        ("--server-url",),
        "Cloudflare's",
        source_key="server_url",
    ),
    Option(
        "header",
        values.headers,
        "request header, its value taken from a variable",
        WHAT,
        "NAME=ENVVAR",
        ("--header",),
        repeats=True,
        source_key="headers",
    ),
    Option(
        "insecure_http",
        values.switch,
        "send credentials over plain http, also to other machines",
        WHAT,
        "",
        ("--insecure-http",),
        source_key="insecure_http",
    ),
    Option(
        "profile", values.text, "which of several sign-ins at one server", WHAT, "NAME", ("--profile",), DEFAULT_PROFILE
    ),
    Option(
        "token_file", values.path, "file that holds the API token, where CLOUDFLARE_API_TOKEN is not set", WHAT, "FILE"
    ),
    Option(
        "token_keyring",
        values.text,
        "name under which the system keyring holds the API token, in the service cfaudit-export",
        WHAT,
        "NAME",
    ),
    Option(
        "sink", values.names, "destination; several are served independently", WHERE, "NAME", ("--sink",), repeats=True
    ),
    Option("transform", values.names, "change events on the way", WHERE, "NAME", ("--transform",), repeats=True),
    Option(
        "state_dir",
        values.path,
        "folder of checkpoints and staged batches",
        WHERE,
        "DIR",
        ("--state-dir",),
        "the user's state folder",
    ),
    Option(
        "client_id",
        values.text,
        "client registered at the server, or URL of its metadata document",
        SIGN_IN,
        "ID",
        ("--client-id",),
        "register one",
    ),
    Option(
        "client_secret_variable",
        values.variable,
        "variable that holds the secret of the client",
        SIGN_IN,
        "ENVVAR",
        ("--client-secret-variable",),
    ),
    Option(
        "client_secret_file",
        values.path,
        "file that holds the secret of the client",
        SIGN_IN,
        "FILE",
        ("--client-secret-file",),
    ),
    Option("scope", values.text, "what to ask for", SIGN_IN, "TEXT", ("--scope",), "what the server suggests"),
    Option(
        "redirect_port",
        values.port,
        "port of this machine to which the browser returns",
        SIGN_IN,
        "PORT",
        ("--redirect-port",),
        "any that is free",
    ),
    Option(
        "grant_days",
        values.days,
        "how long a sign-in lasts, in days, where the server does not say",
        SIGN_IN,
        "DAYS",
        ("--grant-days",),
        "30 at Cloudflare's servers",
    ),
    Option(
        "oauth_resource",
        values.choice("send", "omit"),
        "name the MCP server in requests for tokens (RFC 8707); some servers refuse that",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_registration_scope",
        values.choice("send", "omit"),
        "name the scope when registering; some servers refuse that",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_pkce",
        values.choice("listed", "always"),
        "sign in where the server lists PKCE with S256, or use it without being listed",
        SIGN_IN,
        "listed|always",
        default="listed",
    ),
    Option(
        "oauth_origins",
        values.names,
        "further origins of the authorization server, where it names endpoints of other hosts than its own",
        SIGN_IN,
        "URL",
    ),
    Option(
        "keyring",
        values.choice("auto", "off"),
        "keep sign-ins in the system keyring, or in a file of the state folder",
        SIGN_IN,
        "auto|off",
        ("--keyring",),
        "auto",
    ),
    *(_filter(name, choices) for name, choices in AUDITLOGS_FILTERS.items()),
    Option(
        "recover",
        values.recover,
        "rebuild columns that the source cuts off",
        HOW,
        "auto|off|all",
        ("--recover",),
        "auto",
    ),
    Option("settle_lag", values.length, "stop so far behind now", HOW, "DURATION", ("--settle-lag",), "5m"),
    Option("rescan", values.length, "look again for latecomers so far back", HOW, "DURATION", ("--rescan",), "6h"),
    Option("max_wait", values.length, "longest wait before exit 75", HOW, "DURATION", ("--max-wait",), "unbounded"),
    Option(
        "concurrency",
        values.count,
        "windows read at once",
        HOW,
        "N",
        ("--concurrency",),
        "the source's own",
        source_key="concurrency",
    ),
    Option(
        "metrics_file", values.path, "file for Prometheus' node exporter to serve", WATCH, "FILE", ("--metrics-file",)
    ),
    Option(
        "otlp_endpoint",
        values.url,
        "OpenTelemetry collector that gets metrics and traces",
        WATCH,
        "URL",
        ("--otlp-endpoint",),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    Option("ping_url", values.text, "monitor that is told when a run starts and how it ends", WATCH, "URL"),
    Option(
        "log_format",
        values.choice("text", "json"),
        "form of the log lines on stderr",
        LOGS,
        "text|json",
        ("--log-format",),
        "text on a terminal, else json",
    ),
    Option(
        "verbosity",
        values.level,
        "say more; twice: also what libraries say",
        LOGS,
        "",
        ("-v", "--verbose"),
        repeats=True,
    ),
)
"""Every option, in the order of `--help`."""
