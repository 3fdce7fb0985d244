"""The transform `redact`: events in, events without names out, before anything of them is written.

config     what can be set, and presets
paths      the texts that say where a value is -> a tree to walk by
keys       the keys of pseudonyms, each from a time on
values     a value -> its pseudonym, its ciphertext, the network of its address
scrub      addresses and secrets anywhere in a text
documents  JSON texts, walked and written anew
redact     a table, column by column
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cfaudit_export import TransformPlugin, hookimpl
from cfaudit_redact.config import RedactConfig

if TYPE_CHECKING:
    from cfaudit_redact.redact import Redact

__all__ = ["RedactConfig", "cfaudit_transforms"]


@hookimpl
def cfaudit_transforms() -> Iterable[TransformPlugin]:
    """Offer the transform `redact`."""
    yield TransformPlugin("redact", RedactConfig, _build, "drops, pseudonymises, encrypts and scrubs personal data")


def _build(config: RedactConfig) -> Redact:
    from cfaudit_redact.redact import Redact  # pyarrow and msgspec are too heavy for a listing of plugins

    return Redact(config)
