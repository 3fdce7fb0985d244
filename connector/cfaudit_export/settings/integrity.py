"""What can be set about proof: which manifests are written, what signs them, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfaudit_export.settings import values
from cfaudit_export.settings.option import PROOF, Option

INTEGRITY_OPTIONS: tuple[Option, ...] = (
    Option(
        "integrity.key_file",
        values.path,
        "file of the key that signs manifests, as 'cfaudit-export key new' writes it",
        PROOF,
        "FILE",
        default="manifests are not signed",
        short_variable="CFAUDIT_SIGNING_KEY_FILE",
    ),
    Option(
        "integrity.manifests",
        values.switch,
        "write manifests for all sinks, or for none",
        PROOF,
        "true|false",
        default="for sinks of files; with a key for all",
    ),
    Option(
        "integrity.path",
        values.text,
        "where manifests of sinks that store no files are kept: a folder, or s3://bucket/prefix",
        PROOF,
        "PLACE",
        default="the state folder, which is the weakest place",
    ),
    Option(
        "integrity.timestamp_url",
        values.url,
        "time stamping authority (RFC 3161) that is asked for a token for each manifest",
        PROOF,
        "URL",
    ),
    Option(
        "integrity.lock_days",
        values.days,
        "how long S3 Object Lock keeps manifests from being changed or removed, in days",
        PROOF,
        "DAYS",
    ),
)


@dataclass(frozen=True, slots=True)
class Integrity:
    """What is set about proof.

    Attributes:
        key_file: the key that signs manifests; None to sign none.
        manifests: whether they are written; None for sinks of files always, and for others where there is a key.
        path: where those of sinks without files are kept; None for the state folder.
        timestamp_url: what gives timestamps; None for none.
        lock_days: how long manifests in S3 are locked; None for not at all.
    """

    key_file: Path | None = None
    manifests: bool | None = None
    path: str | None = None
    timestamp_url: str | None = None
    lock_days: int | None = None
