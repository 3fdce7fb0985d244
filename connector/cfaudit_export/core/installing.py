"""An extra of this program -> the command that adds it where the program is installed: by pip, pipx or uv."""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

_OURS = "cfaudit-export"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation."""
    source, editable = _source()
    wanted = f"'{source}[{extra}]'" if "'" not in source else shlex.quote(f"{source}[{extra}]")
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx install --force {wanted}"
    if (prefix / "uv-receipt.toml").exists():
        return f"uv tool install --force {wanted}"
    wanted = f"-e {wanted}" if editable else wanted
    python = shlex.quote(_shown(sys.executable))
    return f"{python} -m pip install {wanted}" if find_spec("pip") else f"uv pip install --python {python} {wanted}"


def _source() -> tuple[str, bool]:
    """Return what the program was installed from: a folder, or else its name; and whether it is used from there."""
    try:
        text = distribution(_OURS).read_text("direct_url.json")
        said = json.loads(text) if text else {}
    except (PackageNotFoundError, ValueError):
        said = {}
    url = urlsplit(str(said.get("url", "")))
    if url.scheme != "file":
        return _OURS, False
    return _shown(unquote(url.path)), bool(said.get("dir_info", {}).get("editable"))


def _shown(path: str) -> str:
    """Return a path as short as it can be written here."""
    here = os.path.relpath(path)
    return path if here.startswith("..") else here if os.sep in here else f".{os.sep}{here}"
