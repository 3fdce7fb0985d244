"""Where grants are kept between runs: the system keyring, or a file that only its owner can read."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from cfaudit_export.auth.grants import Grant
from cfaudit_export.core.disk import read_file
from cfaudit_export.core.durable import make_folder, replace_file
from cfaudit_export.errors import AccessError, TryAgainError

SERVICE = "cfaudit-export"
# What the file of a grant says when the grant itself is in the keyring.
_POINTER = b'{"kept_in":"keyring"}\n'


class Keyring(Protocol):
    """The part of a keyring backend that is used here."""

    def get_password(self, service: str, username: str, /) -> str | None:
        """Return what is kept, None when there is nothing."""
        ...

    def set_password(self, service: str, username: str, password: str, /) -> None:
        """Keep it, in the place of what was there."""
        ...

    def delete_password(self, service: str, username: str, /) -> None:
        """Forget it."""
        ...


def system_keyring(*, probe: bool = True) -> Keyring | None:
    """Return the system's keyring; None when the extra `keyring` is not installed, or there is none that works.

    With `probe` a keyring that is locked, or has no session to ask, is found out here by keeping something in it for
    a moment.
    """
    try:
        import keyring
        from keyring.core import recommended
    except ImportError:
        return None
    try:
        backend: Keyring = keyring.get_keyring()
        if not recommended(backend):
            return None
        if not probe:
            return backend
        backend.set_password(SERVICE, "probe", "works")
        works = backend.get_password(SERVICE, "probe") == "works"
        backend.delete_password(SERVICE, "probe")
    except Exception:  # noqa: BLE001 - a backend raises whatever its system does
        return None
    return backend if works else None


class GrantStore:
    """Grants by MCP server and profile, kept in the folder `grants` of the state directory.

    Each grant has a file there, mode 0600, that holds the grant or says that the keyring does. Files are replaced
    whole, and what a method wrote is durable when it returns.
    """

    def __init__(self, state_dir: Path, *, keyring: Keyring | None = None) -> None:
        """Build a store; does no I/O. With `keyring` new sign-ins are kept there."""
        self._dir = state_dir / "grants"
        self._keyring = keyring

    def find(self, resource: str, profile: str) -> Grant | None:
        """Return the latest sign-in at the MCP server `resource`, None when there is none.

        Raises:
            AccessError: there is one, and it cannot be read.
            TryAgainError: it is in the keyring, and that does not answer.
        """
        grants = [self._read(path) for path in self._paths(resource, profile)]
        return max(grants, key=lambda grant: grant.signed_in_at, default=None)

    def add(self, grant: Grant) -> None:
        """Keep a new sign-in, in the place of the one with the same issuer, resource and profile.

        Raises:
            TryAgainError: it cannot be kept.
        """
        path = self._path(grant)
        leaves_keyring = self._keyring is None and self._is_pointer(path)
        self._write(grant, self._keyring)
        if leaves_keyring:
            self._forget_in_keyring(path)

    def update(self, grant: Grant) -> None:
        """Keep a renewed grant where it was kept before.

        Raises:
            AccessError: it was kept in the keyring, and this session has none.
            TryAgainError: it cannot be kept; the old one still is.
        """
        self._write(grant, self._required() if self._is_pointer(self._path(grant)) else None)

    def remove(self, grant: Grant) -> None:
        """Forget a grant; not having it is fine, and so is a keyring that cannot be reached.

        Raises:
            TryAgainError: its file cannot be removed.
        """
        self._remove(self._path(grant))

    def clear(self, resource: str, profile: str) -> None:
        """Forget every grant of an MCP server and profile, also such as cannot be read.

        Raises what `remove` raises.
        """
        for path in self._paths(resource, profile):
            self._remove(path)

    @contextmanager
    def hold(self, resource: str, profile: str, *, wait_seconds: float) -> Iterator[None]:
        """Keep every other process from changing this grant while the context lasts; a dead holder does not block.

        Raises:
            TryAgainError: another process held it for all of `wait_seconds`, or the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        path = self._dir / f"{_place(resource, profile)}.lock"
        with _disk_faults(path):
            make_folder(self._dir)
            lock = FileLock(path, timeout=wait_seconds, mode=0o600)
            try:
                lock.acquire()
            except Timeout:
                raise TryAgainError(
                    f"another process is renewing the sign-in, for longer than {wait_seconds:.0f} s; try again later"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _path(self, grant: Grant) -> Path:
        return self._dir / f"{_place(grant.resource, grant.profile)}-{_hash(grant.issuer)}.json"

    def _paths(self, resource: str, profile: str) -> list[Path]:
        return sorted(self._dir.glob(f"{_place(resource, profile)}-*.json"))

    def _remove(self, path: Path) -> None:
        if self._is_pointer(path):
            self._forget_in_keyring(path)
        with _disk_faults(path):
            path.unlink(missing_ok=True)

    def _forget_in_keyring(self, path: Path) -> None:
        with suppress(AccessError, TryAgainError), keyring_faults():
            self._required().delete_password(SERVICE, path.stem)

    def _is_pointer(self, path: Path) -> bool:
        try:
            return read_file(path) == _POINTER
        except OSError:
            return False

    def _required(self) -> Keyring:
        keyring = self._keyring or system_keyring()
        if keyring is None:
            raise AccessError(
                "the sign-in is kept in the system keyring, which this session cannot open; "
                "to run without a desktop, sign in with --keyring off"
            )
        return keyring

    def _read(self, path: Path) -> Grant:
        import msgspec

        try:
            kept = read_file(path)
            if kept == _POINTER:
                keyring = self._required()
                with keyring_faults():
                    kept = (keyring.get_password(SERVICE, path.stem) or "").encode()
            return msgspec.json.decode(kept, type=Grant)
        except (OSError, msgspec.MsgspecError) as error:
            # The cause is cut off: its text may quote what was read.
            raise AccessError(
                f"the sign-in kept in '{path}' cannot be read ({type(error).__name__}); run: cfaudit-export login"
            ) from None

    def _write(self, grant: Grant, keyring: Keyring | None) -> None:
        import msgspec

        path, kept = self._path(grant), msgspec.json.encode(grant)
        if keyring is not None:
            with keyring_faults():
                keyring.set_password(SERVICE, path.stem, kept.decode())
            kept = _POINTER
        with _disk_faults(path):
            _replace(path, kept)


def _place(resource: str, profile: str) -> str:
    return _hash(f"{resource}\n{profile}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def keyring_faults() -> Iterator[None]:
    """Turn what a keyring raises into a TryAgainError."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a backend raises whatever its system does
        raise TryAgainError(f"the system keyring does not work: {type(error).__name__}") from None


@contextmanager
def _disk_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryAgainError(f"the sign-in cannot be kept in '{path}': {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    """Replace a file, so that a reader sees the old content or the new and a crash keeps one of them."""
    make_folder(path.parent)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.new")
    replace_file(path, lambda file: file.write(content), temporary=hidden)
