"""Renews a sign-in: for each refused token on stdin, the token after it on stdout. Arguments: server, state folder.

A program of its own and not a function that `multiprocessing` would run: a child of that has to import the tests, and
finds them only where the working directory happens to be on its path.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.store import GrantStore

LIFE_SECONDS = 600  # no test waits longer for an answer, however busy the machine


async def renewed(url: str, state_dir: Path, refused: str) -> str:
    credential = OAuthCredential(GrantStore(state_dir), url, clock=lambda: datetime.now(UTC))
    assert await credential.renew(refused)
    return await credential.token()


def main() -> None:
    signal.alarm(LIFE_SECONDS)
    url, state_dir = sys.argv[1:]
    for line in sys.stdin:
        print(asyncio.run(renewed(url, Path(state_dir), line.strip())), flush=True)


if __name__ == "__main__":
    main()
