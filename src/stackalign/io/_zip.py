"""Positions in zip archives."""

import struct
import zipfile
from pathlib import Path

__all__ = ["stored_position"]


def stored_position(path: Path, entry: zipfile.ZipInfo) -> int:
    """Return where the content of a member begins that is stored without compression."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
    # The lengths in the local header may differ from those in the directory: torch pads the local one.
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return entry.header_offset + 30 + int(name_length) + int(extra_length)
