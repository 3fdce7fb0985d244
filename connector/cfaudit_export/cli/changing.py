"""What the commands share that change sealed files on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cfaudit_export.cli.exported import accounts, open_data_location
from cfaudit_export.cli.shell import Shell
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.analysis.removal.record import Work
    from cfaudit_export.analysis.removal.trusted import Trusted


@contextmanager
def changing(
    shell: Shell, settings: Settings, data: str | None, account: Sequence[str] | None, *, dry_run: bool
) -> Iterator[tuple[Trusted, Work]]:
    """Yield what the manifests of the data say, and what its files are changed with.

    Raises:
        CfauditError: the data cannot be read or written, its manifests are not whole, or a key is missing.
    """
    from cfaudit_export.analysis.files.location import reading_failed
    from cfaudit_export.analysis.removal.trusted import require_trusted_chains
    from cfaudit_export.app.removal import open_work
    from cfaudit_export.plugin.registry import load_plugins

    place = open_data_location(settings, data)
    about = accounts(shell, settings, account)
    plugins = load_plugins(environ=shell.environ)
    with open_work(settings, plugins, place, shell.clock, about, dry_run=dry_run) as work:
        try:
            yield require_trusted_chains(place, work.keys, about), work
        except OSError as error:
            raise reading_failed(place, error) from error
