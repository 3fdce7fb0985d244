"""Messages between server and worker: JSON, each behind its length in four bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

LENGTH = struct.Struct(">I")
MOST_FRAME_BYTES = 64 << 20


def send(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write a message."""
    body = json.dumps(message).encode()
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read a message; None at the end.

    Raises:
        ValueError: what comes is none.
    """
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    if size > MOST_FRAME_BYTES:
        raise ValueError(f"a message of {size:,} bytes")
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None
