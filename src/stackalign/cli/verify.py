"""`stackalign verify`: whether an output is still what its run has written, and its inputs what they were."""

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import DONE, FAILED, USAGE, out, say
from ._options import AsJson, Quiet

if TYPE_CHECKING:
    from ._provenance import Made

__all__ = ["verify"]


_ARRAY_DIGEST = 64
"""Length of a digest of values (`stackalign.runs.array_digest`); fingerprints of files are shorter."""


@dataclass(frozen=True)
class Verdict:
    """On one file: "right", "wrong" or "unknown", why, and what was not compared."""

    file: str
    status: str
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    command: str | None = None

    def __str__(self) -> str:
        words = "; ".join((*self.problems, *self.remarks))
        if self.status == "right":
            return f"{self.file}: as {self.command} has written it" + (f"; {words}" if words else "")
        return words if words.startswith(self.file) else f"{self.file}: {words}"


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Outputs of commands, or their records.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check that outputs are what their runs have written, and that the inputs have not changed since.

    Inputs that are no longer there are said, and not held against the output.
    Exit code: 0 all are right, 1 one has changed or its input has, 2 wrong usage or a file that no command has written.
    """
    verdicts = [_verdict(path) for path in files]
    if as_json:
        sys.stdout.write(json.dumps([vars(verdict) for verdict in verdicts], indent=2) + "\n")
    for verdict in verdicts:
        if verdict.status != "right":
            say(f"error: {verdict}")
        elif not (quiet or as_json):
            out.print(str(verdict), markup=False)
    states = {verdict.status for verdict in verdicts}
    raise typer.Exit(FAILED if "wrong" in states else USAGE if "unknown" in states else DONE)


def _verdict(path: Path) -> Verdict:
    from stackalign.errors import StackalignError
    from stackalign.runs.record import check_content

    from ._provenance import find

    made = find(path)
    if made is None:
        why = "has no record beside it that names it" if path.exists() else "does not exist"
        return Verdict(str(path), "unknown", (f"{path} {why}; give an output of a command, or its record",))
    command = made.plan.get("command")
    if command is None:
        why = f"the record {made.file} is of a version that kept no fingerprints; run the command again"
        return Verdict(str(path), "unknown", (why,))
    try:
        problem = check_content(made.output, made.record)
    except StackalignError as error:
        problem = str(error)
    problems, remarks = ([] if problem is None else [problem]), list[str]()
    for described in made.inputs:
        state = _input_state(described, made)
        name = described.get("path") or described.get("name")
        if state == "changed":
            problems.append(f"the input {name} has changed since (content or time of change)")
        elif state == "absent":
            remarks.append(f"the input {name} is not there and was not compared")
        elif state == "unknown":
            remarks.append(f"the input {name} is known by its values alone and was not compared")
    return Verdict(str(path), "wrong" if problems else "right", tuple(problems), tuple(remarks), command)


def _input_state(described: dict[str, Any], made: "Made") -> str:
    """Tell whether an input is the "same", "changed", "absent", or "unknown": known by the values that were used."""
    from stackalign.errors import StackalignError
    from stackalign.io.images import open_images
    from stackalign.runs import FileInput

    path = _locate(described, made)
    if path is None:
        return "absent"
    fingerprint = str(described.get("fingerprint"))
    if len(fingerprint) == _ARRAY_DIGEST:
        return "unknown"
    try:
        if FileInput(path).first == fingerprint:
            return "same"
        # Formats of several files: their reader knows all that belong to it.
        with closing(open_images(path, dataset=(described.get("options") or {}).get("dataset"))) as reader:
            return "same" if reader.fingerprint() == fingerprint else "changed"
    except StackalignError:
        return "changed"


def _locate(described: dict[str, Any], made: "Made") -> Path | None:
    """Where an input is now; beside the output where the record has but its name."""
    stated = described.get("path")
    places = [Path(str(stated)), made.output.parent / str(stated)] if stated else []
    if not stated and described.get("name"):
        places = [made.output.parent / described["name"]]
    return next((place for place in places if place.exists()), None)
