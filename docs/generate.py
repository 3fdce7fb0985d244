"""The pages of docs/reference, made from the code: `python docs/generate.py`. A test compares them."""  # noqa: INP001 - a script, no part of a package

from __future__ import annotations

import dataclasses
import inspect
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from cfaudit_export.cli import main
from cfaudit_export.cli.app import COMMANDS
from cfaudit_export.core.times import show_duration
from cfaudit_export.errors import ExitCode
from cfaudit_export.metrics import METRICS
from cfaudit_export.plugin import hookspecs
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.schema_formats import as_markdown
from cfaudit_export.settings import OPTIONS, Option

FOLDER = Path(__file__).parent / "reference"
_OURS = "cfaudit-export"
_COMMANDS = """\
# Commands

Options without a command are those of `run`: `cfaudit-export --sink s3` is `cfaudit-export run --sink s3`. What people
read goes to stderr; stdout has only answers, as a table or with `--json`. `cfaudit-export --install-completion` lets
the shell complete commands and options (bash, zsh, fish).
"""
_SETTINGS = """\
# Settings

Flags win, then `-o KEY=VALUE`, then variables, then the TOML file. `filters.actor_email` is the key `actor_email` in
the table `[filters]`.
"""
_API = """\
# Python API

All that a plugin, or a program that starts exports, may import. Other modules may change in any version. The
first section is what `from cfaudit_export import ...` has.
"""
PUBLIC = {
    "cfaudit_export": "Plugins: what they offer, promise and raise",
    "cfaudit_export.api": "Starting exports",
    "cfaudit_export.schema": "Columns",
    "cfaudit_export.schema_formats": "Columns in other forms",
    "cfaudit_export.parquet": "Parquet files",
    "cfaudit_export.stores.document": "Checkpoints as text",
    "cfaudit_export.http.exchange": "HTTP requests that end",
    "cfaudit_export.http.webhook": "Signed messages to HTTP endpoints",
    "cfaudit_export.core.deadline": "Waits that end",
    "cfaudit_export.core.disk": "Disks",
    "cfaudit_export.core.durable": "Durable files and folders",
    "cfaudit_export.core.urls": "URLs",
    "cfaudit_export.core.redaction": "Hiding secrets",
    "cfaudit_export.core.secret_file": "Files of secrets",
    "cfaudit_export.http.echoes": "Secrets that servers repeat",
    "cfaudit_export.http.aws": "Replies to boto3 that end",
    "cfaudit_export.http.bounded_requests": "Replies to requests that end",
    "cfaudit_export.proof.chain": "Manifests: the chain",
    "cfaudit_export.proof.folder": "Manifests in a folder",
    "cfaudit_export.testing": "Suites for plugins",
}
"""The public modules, in the order of the page, with what each is for."""


def pages() -> dict[str, str]:
    """Return each page by the name of its file."""
    return {
        "commands.md": _commands(),
        "settings.md": _settings(),
        "exit-codes.md": _exit_codes(),
        "columns.md": _columns(),
        "metrics.md": _metrics(),
        "hooks.md": _hooks(),
        "api.md": _api(),
        "plugins.md": _plugins(),
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _commands() -> str:
    listed = [(f"[`{name}`](#{name})", summary) for name, (_, _, summary) in COMMANDS.items()]
    parts = [_COMMANDS, "\n", _table(("command", "does"), listed)]
    parts += [f"\n## {name}\n\n{_command(_help(name))}" for name in COMMANDS]
    return "".join(parts)


def _command(text: str) -> str:
    """Return the help of a command as a page shows it: prose, tables of options, examples as code."""
    usage, _, rest = text.partition("\n")
    parts = [f"```text\n{usage.removeprefix('Usage: ').strip()}\n```\n"]
    sections = re.split(r"^(\S.*):\n", rest, flags=re.MULTILINE)
    parts.append(_prose(sections[0]))
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        options, _, after = body.partition("\n\n")
        parts += [f"\n**{title}**\n\n{_options(options)}", _prose(after)]
    return "".join(parts)


def _options(text: str) -> str:
    """Return a list of options as a table; a line that begins further in continues the one above."""
    rows: list[list[str]] = []
    for line in text.strip("\n").split("\n"):
        found = re.fullmatch(r"  (\S.*?)(?:  +(\S.*))?", line)
        if found and not line.startswith("   "):
            rows.append([found[1], found[2] or ""])
        elif rows:
            rows[-1][1] = f"{rows[-1][1]} {line.strip()}".strip()
    cells = [(f"`{flag}`".replace("|", "\\|"), about.replace("|", "\\|")) for flag, about in rows]
    return _table(("option", "what it does"), cells)


def _prose(text: str) -> str:
    """Return what a help says beside its options: paragraphs, and what is laid out there as code."""
    parts = []
    for part in re.split(r"\n{2,}", textwrap.dedent(text).strip("\n")):
        head = re.match(r"(Examples?|Exit codes):\n", part)
        if head:
            code = textwrap.dedent(part[head.end() :]).rstrip()
            parts.append(f"\n**{head[1]}**\n\n```text\n{code}\n```\n")
        elif "\n  " in part or part.startswith("  "):
            parts.append(f"\n```text\n{part.rstrip()}\n```\n")
        elif part.strip():
            parts.append("\n" + "\n".join(textwrap.wrap(" ".join(part.split()).replace("<", "&lt;"), 118)) + "\n")
    return "".join(parts)


def _help(command: str) -> str:
    written, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with redirect_stdout(written):
            main([command, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join(line.rstrip() for line in written.getvalue().strip().splitlines()) + "\n"


def _settings() -> str:
    panels = dict.fromkeys(option.panel for option in OPTIONS)
    parts = [_SETTINGS]
    for panel in panels:
        rows = [_option(option) for option in OPTIONS if option.panel == panel]
        parts.append(f"\n## {panel}\n\n{_table(('flag', 'key', 'variable', 'what it sets'), rows)}")
    found = load_plugins()
    for kind, offers in (("sources", found.sources), ("sinks", found.sinks), ("checkpoint", found.stores)):
        for name, plugin in sorted(offers.items()):
            if plugin.distribution == _OURS:
                where = "checkpoint" if kind == "checkpoint" else f"{kind}.{name}"
                parts.append(_plugin(where, name, plugin.record.config))
    return "".join(parts)


def _option(option: Option) -> list[str]:
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    about = option.help + (f" (default: {option.default})" if option.default else "")
    return [flags, f"`{option.key}`", f"`{option.variable}`", about]


def _plugin(where: str, name: str, config: Any) -> str:
    about = dict(_attributes(config))
    rows = [(f"`{field.name}`", _default(field), about[field.name]) for field in dataclasses.fields(config)]
    title = f'[{where}] with store = "{name}"' if where == "checkpoint" else f"[{where}]"
    return f"\n## {title}\n\n" + (_table(("key", "default", "what it is"), rows) if rows else "No settings.\n")


def _attributes(config: type) -> Iterator[tuple[str, str]]:
    """Yield what the docstrings of a class and its bases say of each attribute."""
    for one in reversed(config.__mro__):
        section = (inspect.getdoc(one) or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL):
            yield name, " ".join(text.split())


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING or field.default in (dataclasses.MISSING, None, ""):
        return ""
    if isinstance(field.default, timedelta):
        return f"`{show_duration(field.default)}`"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _exit_codes() -> str:
    rows = [[str(int(code)), code.meaning] for code in ExitCode]
    return (
        f"# Exit codes\n\n{_table(('code', 'means'), rows)}\nWhere several apply, the one that most needs a person "
        "wins. Stopped by SIGINT or SIGTERM it ends with 130 or 143, and with 141 if the reader of its answer went "
        "away.\n"
    )


def _columns() -> str:
    return (
        "# Columns\n\nA column that is not marked as never null is null where the source cannot know it. Values of "
        "enumerations are open: a\nnew one is kept as it is. A `timestamp` has microseconds and is UTC.\n\n"
        + as_markdown()
    )


def _metrics() -> str:
    rows = [
        (f"`{metric.prometheus_name}`", f"`{metric.otel_name}`", metric.kind, ", ".join(metric.labels), metric.help)
        for metric in METRICS
    ]
    return "# Metrics\n\n" + _table(("in Prometheus", "in OpenTelemetry", "kind", "labels", "what it is"), rows)


def _hooks() -> str:
    parts = [f"# Hooks\n\n{inspect.getdoc(hookspecs)}\n"]
    specs: Mapping[str, Any] = {name: one for name, one in vars(hookspecs).items() if name.startswith("cfaudit_")}
    for name, spec in specs.items():
        about, _, example = (inspect.getdoc(spec) or "").partition("Example:\n")
        parameters = ", ".join(inspect.signature(spec).parameters)
        code = textwrap.dedent(example).strip()
        parts.append(f"\n## {name}({parameters})\n\n{about.strip()}\n\n```python\n{code}\n```\n")
    return "".join(parts)


def _api() -> str:
    parts = [_API]
    for module, title in PUBLIC.items():
        named = sorted(getattr(import_module(module), "__all__", ()))
        members = f"\n    options:\n      members: [{', '.join(named)}]\n" if named else "\n"
        parts.append(f"\n## {title}\n\n`{module}`\n\n::: {module}{members}")
    return "".join(parts)


def _plugins() -> str:
    text = (FOLDER.parents[1] / "plugins" / "README.md").read_text(encoding="utf-8").replace("../docs/reference/", "")
    # What it links to is beside it in the repository, and not in the site.
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|\w+\.md)[^)]*\)", r"`\1`", text).replace(
        "# Plugins", "# Writing plugins", 1
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, page in pages().items():
        (FOLDER / file).write_text(page, encoding="utf-8")
    if "--pictures" in sys.argv:
        import pictures  # beside this file, and slow: it runs the program

        pictures.make()
