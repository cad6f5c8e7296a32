"""The record beside an output: what made it, from which plan, and how its content is recognised."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackalign.io._reader import damage_as_data_error
from stackalign.io.provenance import dump_json

from .plan import Plan

__all__ = [
    "SUFFIXES",
    "check_content",
    "content_fingerprint",
    "find_record",
    "load_record",
    "record_digest",
    "record_path",
    "why_foreign",
]

SUFFIXES = (
    "_results.json", "_alignment.json", "_nfold.json", "_centers.json", "_peaks.json", "_profile.json", "_mask.json",
    "_drift.json",
    ".json", "",
)  # fmt: skip
"""Suffixes of the records of all pipelines; "" stands for outputs that are their own record."""

_SAMPLES = 16
_SAMPLE_BYTES = 4096
_EDGE_BYTES = 65536


def record_path(output: Path, suffix: str) -> Path:
    """Name of the record of an output: ``<stem><suffix>``, or ``<stem>_<ext><suffix>`` if another output has that.

    Parameters
    ----------
    output : Path
    suffix : str
        Such as "_results.json"; "" where the output is its own record.

    Returns
    -------
    Path
        Beside the output.
    """
    if not suffix:
        return output
    name = output.name.removesuffix(".gz")
    first = output.with_name(name.removesuffix(Path(name).suffix) + suffix)
    if first.exists() and _output_of(first) not in (None, output.name):
        return output.with_name(output.name.replace(".", "_") + suffix)
    return first


def find_record(output: Path, suffix: str) -> dict[str, Any] | None:
    """Load the record that belongs to an output; None where there is none.

    Parameters
    ----------
    output : Path
        Name of the output.
    suffix : str
        Such as "_results.json".

    Returns
    -------
    dict or None
        The record.
    """
    path = record_path(output, suffix)
    record = load_record(path)
    return record if record is not None and _named_in(record) == output.name else None


def load_record(path: Path) -> dict[str, Any] | None:
    """Load a JSON object; None where the file is missing or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _output_of(path: Path) -> str | None:
    """Which output a record names; None where it is no record."""
    record = load_record(path)
    return None if record is None else _named_in(record)


def _named_in(record: dict[str, Any]) -> str | None:
    run = record.get("run")
    named = run.get("output") if isinstance(run, dict) else record.get("output")
    return Path(named).name if isinstance(named, str) else None


def content_fingerprint(path: Path) -> str:
    """Identify a file, or all files of a folder, by sizes and hashes of edges and samples, whatever its name and time.

    Parameters
    ----------
    path : Path
        File or folder.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    DataError
        It cannot be read.
    """
    digest = hashlib.blake2b(digest_size=20)
    with damage_as_data_error(str(path), "the content"):
        if not path.is_dir():
            _add_file(digest, path)
            return digest.hexdigest()
        files = sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}|{file.stat().st_size}|".encode())
        step = max(1, len(files) // _SAMPLES)
        for file in files[::step]:
            _add_file(digest, file)
    return digest.hexdigest()


def _add_file(digest: Any, path: Path) -> None:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest.update(f"{size}|".encode())
        for position, length in _sampled(size):
            stream.seek(position)
            digest.update(stream.read(length))


def _sampled(size: int) -> list[tuple[int, int]]:
    """Where a file of this size is looked at."""
    if size <= 2 * _EDGE_BYTES + _SAMPLES * _SAMPLE_BYTES:
        return [(0, size)]
    inner = [(size * k // (_SAMPLES + 1), _SAMPLE_BYTES) for k in range(1, _SAMPLES + 1)]
    return [(0, _EDGE_BYTES), *inner, (size - _EDGE_BYTES, _EDGE_BYTES)]


def record_digest(record: Mapping[str, Any]) -> str:
    """Digest of what a command says in its record, whatever its layout; the part "run" is left out."""
    said = {name: value for name, value in record.items() if name != "run"}
    text = dump_json(said, indent=None, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def check_content(output: Path, record: Mapping[str, Any]) -> str | None:
    """Say what is wrong with an output that its record describes; None where it is what the run has written."""
    run = record.get("run", {})
    said = run.get("digest")
    if said is not None and said != record_digest(record):
        return f"the record of {output} is not what its run has written"
    stored = run.get("content")
    if stored is None:  # a run that wrote nothing but its record
        return None
    if not output.exists():
        return f"{output} is missing"
    if content_fingerprint(output) != stored:
        return f"the content of {output} is not what its run has written"
    return None


def why_foreign(output: Path, plan: Plan, record: Mapping[str, Any] | None) -> str:
    """Say why an existing output is not that of a run, to go on after "it exists"."""
    if record is None or not isinstance(record.get("run"), dict):
        return " and was not written by an earlier run of this command"
    differences = plan.differences(record["run"].get("plan", {}))
    if differences:
        return f" and belongs to another run ({'; '.join(differences[:3])})"
    problem = check_content(output, record)
    return f" and is not what an earlier run has written ({problem})" if problem else ""
