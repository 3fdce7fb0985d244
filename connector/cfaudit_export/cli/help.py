"""`--help` as plain text in groups: quick to print, and readable in 80 columns, in a pipe and in a manual.

typer's own boxes would cost more time than the rest of the program's start.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand

_PLAIN = "Options"


class HelpfulCommand(TyperCommand):
    """A command that shows its options in their panels and its epilog as it is."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, panel by panel."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the signature is typer's
        """Write the epilog line by line."""
        write_lines(self.epilog, formatter)


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command, panel by panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(ctx):
        if option.param_type_name != "option" or option.hidden:
            continue
        names = ", ".join(sorted([*option.opts, *option.secondary_opts], key=len))
        term = names if option.is_flag or option.count else f"{names} {option.metavar or option.name.upper()}"
        panels.setdefault(option.rich_help_panel or _PLAIN, []).append((term, option.help or ""))
    # What every command has comes last.
    for panel in sorted(panels, key=lambda name: name == _PLAIN):
        with formatter.section(panel):
            formatter.write_dl(panels[panel])


def write_lines(text: str | None, formatter: Any) -> None:
    """Write a text as it stands, indented."""
    if not text:
        return
    formatter.write_paragraph()
    for line in inspect.cleandoc(text).splitlines():
        formatter.write(f"  {line}".rstrip() + "\n")
