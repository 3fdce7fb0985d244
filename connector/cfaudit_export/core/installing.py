"""How this program was installed -> the command that adds an extra to it, and the commit that it is of."""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
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


def installed_commit() -> str:
    """Return the commit that this installation is of, empty where that is not known: for a release, or an archive."""
    said = _said()
    if commit := said.get("vcs_info", {}).get("commit_id"):
        return str(commit)
    url = urlsplit(str(said.get("url", "")))
    is_clone = url.scheme == "file" and said.get("dir_info", {}).get("editable")  # another one may have moved on since
    return _head(Path(unquote(url.path)) / ".git") if is_clone else ""


def _head(git: Path) -> str:
    """Return the commit that a clone is at, by reading what git wrote; git itself need not be there."""
    try:
        if git.is_file():  # a worktree
            git = git.parent / git.read_text("utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / "commondir"
        shared = git / common.read_text("utf-8").strip() if common.exists() else git
        if (shared / name).exists():
            return (shared / name).read_text("utf-8").strip()
        packed = (shared / "packed-refs").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")


def _said() -> dict[str, Any]:
    """Return what the installer noted of where the program came from."""
    try:
        text = distribution(_OURS).read_text("direct_url.json")
        said = json.loads(text) if text else {}
    except (PackageNotFoundError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _source() -> tuple[str, bool]:
    """Return what the program was installed from: a folder, or else its name; and whether it is used from there."""
    said = _said()
    url = urlsplit(str(said.get("url", "")))
    if url.scheme != "file":
        return _OURS, False
    return _shown(unquote(url.path)), bool(said.get("dir_info", {}).get("editable"))


def _shown(path: str) -> str:
    """Return a path as short as it can be written here."""
    here = os.path.relpath(path)
    return path if here.startswith("..") else here if os.sep in here else f".{os.sep}{here}"
