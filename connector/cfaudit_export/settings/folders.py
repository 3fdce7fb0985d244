"""Where the settings are looked for, and where what is remembered is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

APPLICATION = "cfaudit-export"
FILE_NAME = "cfaudit.toml"


def default_state_dir() -> Path:
    """Return the folder of this user for what is remembered between runs."""
    import platformdirs

    return platformdirs.user_state_path(APPLICATION)


def find_file(named: Path | None, environ: Mapping[str, str], directory: Path) -> Path | None:
    """Return the file of settings: the one that is named, else the first that is there; None where none is."""
    import platformdirs

    if named is not None:
        return named.expanduser()
    if variable := environ.get("CFAUDIT_CONFIG"):
        return Path(variable).expanduser()
    folders = (directory, platformdirs.user_config_path(APPLICATION))
    return next((path for folder in folders if (path := folder / FILE_NAME).is_file()), None)
