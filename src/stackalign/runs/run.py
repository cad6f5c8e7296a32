"""One output on its way: is it finished, can it be resumed, when to save, and how it gets its final name."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stackalign.errors import (
    DataError,
    FinishedError,
    InputChangedError,
    Interrupted,
    OutputError,
    OutputExistsError,
    StackalignError,
    StackalignWarning,
    UnfitStateError,
)
from stackalign.io._writer import full_disk_as_data_error, output_error
from stackalign.io.atomic import recover_path
from stackalign.io.provenance import dump_json

from .inputs import Fingerprinted, InputWatch
from .journal import Journal, journal_folder
from .lock import OutputLock
from .pace import CHECKPOINT_SECONDS, Pace
from .plan import Plan
from .publication import RECORD, Moves, Publication
from .record import (
    check_content,
    content_fingerprint,
    find_record,
    load_record,
    record_digest,
    record_path,
    why_foreign,
)

__all__ = ["Run"]


class Run:
    """One output on its way; a context manager that holds the lock of the output.

    When the context ends with an exception, what was saved is kept so that it can be resumed. It is removed where it
    would be of no use: where no checkpoint was made, where no run would accept the settings (a plain `ValueError` or
    `TypeError`), or where an input has changed.

    Parameters
    ----------
    output : Path
    plan : Plan
    suffix : str
        Of the record, such as "_results.json": ``<stem><suffix>`` beside the output, written last, is the mark of a
        finished run. "" where the output is its own record.
    resume : bool
        Go on where an interrupted run of the same plan stopped; begin a new run where there is none.
    overwrite : bool
        Replace what exists.
    readers : sequence of StackReader or FileInput
        Inputs, in the order of ``plan.inputs``, whose content is compared again before the output is published.
    beside : sequence of Path
        Other files that will be written beside the output, such as a picture; refused like the output where they exist.
    checkpoint_seconds : float
        Shortest time between two checkpoints.

    Raises
    ------
    FinishedError
        With `resume`: a run of the same plan has finished the output.
    OutputExistsError
        The output or its record exists and may not be replaced.
    OutputLockedError
        Another run writes this output.
    DataError
        There is an unfinished run of another plan; the text says what differs.
    """

    def __init__(
        self,
        output: Path,
        plan: Plan,
        *,
        suffix: str,
        resume: bool = False,
        overwrite: bool = False,
        readers: Sequence[Fingerprinted] = (),
        beside: Sequence[Path] = (),
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.output = output
        self.plan = plan
        self.journal = Journal(journal_folder(output))
        self.data = self.journal.folder / ("data" + output.suffix)
        self.resumed = False
        self.kept_on_error = True
        """Whether what was saved is kept after an error; cleared while a first look may find the input useless."""
        self._suffix = suffix
        self._overwrite = overwrite
        self._replaced: str | None = None
        self._watch = InputWatch(plan.inputs, dict(enumerate(readers)))
        self._beside = tuple(beside)
        self._pace = Pace(checkpoint_seconds)
        self._published = False
        self._publication = Publication(self.journal.folder, output)
        self._lock = OutputLock(output)
        self._lock.acquire()
        try:
            with full_disk_as_data_error(output, str(output)):
                self._open(resume)
        except BaseException:
            self._lock.release()
            raise

    # ------------------------------------------------------------------ the verdict

    def _open(self, resume: bool) -> None:
        """Decide: finished, resumed, refused, or begun anew."""
        recover_path(self.output)  # of a run that was killed while it replaced an old output
        record = find_record(self.output, self._suffix)
        if resume:
            self._complete_publication()
            self._raise_if_finished(record)
            if self.journal.exists():
                self.resumed = self._may_resume()
        self._refuse_existing(record, resume)
        if self.resumed:
            return
        self._replaced = content_fingerprint(self.output) if self.output.exists() else None
        self.journal.discard()
        self._make_folder()

    def _may_resume(self) -> bool:
        """Tell whether the journal is that of this plan, and not damaged."""
        try:
            differences = self.plan.differences(self.journal.plan)
        except UnfitStateError as error:  # whose it is cannot be told
            if not self._overwrite:
                raise
            _warn_of(error)
            return False
        if differences and not self._overwrite:
            msg = (
                f"{self.journal.folder} belongs to another run ({'; '.join(differences[:3])}); "
                "repeat the settings of that run, or start anew without resuming"
            )
            raise DataError(msg).with_hint("restart")
        if differences:
            return False
        try:
            self._replaced = self._replaced_by_the_journal()
        except UnfitStateError as error:
            _warn_of(error)
            return False
        return True

    def _raise_if_finished(self, record: dict[str, Any] | None) -> None:
        if record is None or not isinstance(record.get("run"), dict):
            return
        same = not self.plan.differences(record["run"].get("plan", {}))
        if same and check_content(self.output, record) is None:
            self.journal.discard()  # what a run that was killed at its very end may have left
            msg = f"{self.output} was finished by an earlier run"
            raise FinishedError(msg, record)

    def begin_anew(self, reason: UnfitStateError) -> None:
        """Drop what an interrupted run has left, and say so: the work is done from its beginning.

        Parameters
        ----------
        reason : UnfitStateError
            Why it cannot be used.
        """
        _warn_of(reason)
        self.journal.discard()
        self._make_folder()
        self.resumed = False

    def _make_folder(self) -> None:
        with full_disk_as_data_error(self.journal.folder, str(self.output)):
            self.journal.folder.mkdir()

    def _refuse_existing(self, record: dict[str, Any] | None, resume: bool) -> None:
        """Refuse to replace what this run may not replace."""
        if self._overwrite:
            return
        target = record_path(self.output, self._suffix)
        own = resume and record is not None  # the record of this very output: what it is to be replaced by is the same
        for path in dict.fromkeys((self.output, target, *self._beside)):
            if not (path.exists() or path.is_symlink()) or (path != self.output and own):
                continue
            if path == self.output and self._is_what_was_there(path):
                continue
            why = why_foreign(self.output, self.plan, record) if resume else ""
            msg = f"output {path} exists{why}; choose another name or allow it to be replaced"
            raise OutputExistsError(msg).with_hint("overwrite")

    # ------------------------------------------------------------------ checkpoints

    def due(self) -> bool:
        """Tell whether a checkpoint is due."""
        return self._pace.due()

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Context in which the caller saves; the first one creates the journal, so that short runs have none."""
        with self._pace.measured():
            self._ensure_journal()
            yield
            self._notice_changes()

    def note(self, **record: Any) -> None:
        """Add a record to the journal; it is durable when this returns.

        Parameters
        ----------
        **record
            Plain values.
        """
        self._ensure_journal()
        self.journal.append(record)

    def last_note(self) -> dict[str, Any]:
        """Return the newest note of the journal; an empty one where nothing was noted."""
        records = self.journal.records()
        return records[-1] if len(records) > 1 else {}

    def _ensure_journal(self) -> None:
        if not self.journal.exists():
            self.journal.create(self.plan.to_dict(), fresh=False)
            self.journal.append({"replaces": self._replaced})

    # ------------------------------------------------------------------ inputs

    @contextmanager
    def watching(self, reader: Fingerprinted, index: int) -> Iterator[None]:
        """Compare the content of ``plan.inputs[index]`` at the checkpoints within this context, and at its end.

        Parameters
        ----------
        reader : Fingerprinted
            The open input.
        index : int
            Its number among the inputs of the plan.

        Returns
        -------
        context manager
            To be entered while the input is read.

        Raises
        ------
        InputChangedError
            It has changed since the plan was made; raised also in place of the error of a read that failed.
        """
        self._watch.readers[index] = reader
        try:
            yield
            self._notice_changes()
        except StackalignError as error:
            if not isinstance(error, (InputChangedError, Interrupted)):
                self._notice_changes(error)
            raise
        finally:
            del self._watch.readers[index]

    def _notice_changes(self, cause: Exception | None = None) -> None:
        changed = self._watch.changed()
        if changed is not None:
            self.kept_on_error = False
            raise changed from cause

    # ------------------------------------------------------------------ publication

    def publish(
        self,
        record: Mapping[str, Any],
        files: Mapping[Path, Path] | None = None,
        *,
        status: str = "done",
        summary: Any = None,
        written: bool = True,
    ) -> dict[str, Any]:
        """Give everything its final name, the record last; a run that is killed meanwhile is completed when resumed.

        Parameters
        ----------
        record : mapping
            Results and provenance; plan, fingerprint of the output, status and summary are added under "run".
        files : mapping of Path to Path, optional
            More files: from their places in the journal's folder to their final names.
        status : str
            "done", "flagged", "short" or "failed": resuming a finished run ends with the same exit code.
        summary : optional
            What the command prints, so that it can be printed again.
        written : bool
            Whether there is an output beside the record.

        Returns
        -------
        dict
            The whole record.
        """
        self._notice_changes()
        about = {
            "output": self.output.name,
            "plan": self.plan.to_dict(),
            "content": content_fingerprint(self.data) if written and self._suffix else None,
            "digest": record_digest(record),
            "status": status,
            "summary": summary,
        }
        moves = [(self.data.name, self.output)] if written and self._suffix else []
        moves += [(source.name, target) for source, target in (files or {}).items()]
        moves.append((RECORD, record_path(self.output, self._suffix)))
        text = dump_json({**record, "run": about})
        names = [(name, target.name) for name, target in moves]
        self._publication.begin(about["plan"], text, names)
        self._move(names)
        contents: dict[str, Any] = json.loads(text)
        return contents

    def _move(self, moves: Moves) -> None:
        """Carry out what is left of a publication."""

        def may_replace(target: Path) -> bool:
            return self._overwrite or target != self.output or self._is_what_was_there(target)

        self.kept_on_error = True
        self._publication.carry_out(moves, may_replace)
        self._published = True

    def _is_what_was_there(self, path: Path) -> bool:
        """Whether a file is the one that this run, or the interrupted one, was allowed to replace."""
        return self._replaced is not None and path.exists() and content_fingerprint(path) == self._replaced

    def _complete_publication(self) -> None:
        """Finish the renames of a run of the same plan that was killed among them."""
        moves = self._publication.interrupted(self.plan.differences)
        if moves is None:
            return
        self._replaced = self._replaced_by_the_journal()
        self._move(moves)
        record = load_record(self.output.with_name(moves[-1][1])) or {}
        self.journal.discard()
        msg = f"{self.output} was finished by an earlier run"
        raise FinishedError(msg, record)

    def _replaced_by_the_journal(self) -> str | None:
        """Fingerprint of the output that the interrupted run was allowed to replace."""
        first: str | None = next(iter(self.journal.records()), {}).get("replaces")
        return first

    # ------------------------------------------------------------------ the end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with full_disk_as_data_error(self.output, str(self.output)):
                self._settle(error)
        finally:
            self._lock.release()

    def _settle(self, error: BaseException | None) -> None:
        """Remove what is of no use to a resumed run, and say what is kept."""
        if error is None or self._published or not self._resumable():
            self.journal.discard()
        if error is None or not isinstance(error, Exception) or isinstance(error, Interrupted):
            return
        hopeless = isinstance(error, (ValueError, TypeError)) and not isinstance(error, StackalignError)
        changed = None if hopeless or isinstance(error, OutputExistsError) else self._watch.changed()
        if hopeless or changed is not None or not self.kept_on_error:
            self.journal.discard()
        if changed is not None:
            raise changed from error
        if isinstance(error, OSError) and not isinstance(error, StackalignError):
            error = output_error(self.output, str(self.output), error)
        final = isinstance(error, InputChangedError) or getattr(error, "hint", None) == "restart"
        if isinstance(error, DataError) and not final and self._resumable():
            msg = f"{error}; what was done is kept, and can be resumed"
            raise DataError(msg).with_hint("resume") from error
        if isinstance(error, OutputError):
            raise error

    def _resumable(self) -> bool:
        """Tell whether a run that resumes this one would find anything."""
        return self.journal.exists() or self._publication.exists()


def _warn_of(reason: UnfitStateError) -> None:
    warnings.warn(f"{reason.args[0]}: what was done before is lost, and done again", StackalignWarning, stacklevel=3)
