"""What a command works with. Apart from all commands, because `--help` needs none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cfaudit_export.cli.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Shell:
    """The terminal, the environment, the clock, the working directory."""

    terminal: Terminal
    environ: Mapping[str, str]
    clock: Callable[[], datetime]
    directory: Path
