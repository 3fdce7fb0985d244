"""`python -m cfaudit_export` is `cfaudit-export`."""

from __future__ import annotations

from cfaudit_export.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
