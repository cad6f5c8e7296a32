"""Exceptions and warnings that the package raises on purpose."""

from typing import Any, Self

__all__ = [
    "BackendUnavailableError",
    "DataError",
    "FinishedError",
    "InputChangedError",
    "Interrupted",
    "MaskError",
    "MaskWarning",
    "MissingDependencyError",
    "OutputError",
    "OutputExistsError",
    "OutputLockedError",
    "StackalignError",
    "StackalignWarning",
    "UnfitStateError",
]


class StackalignError(Exception):
    """Base of every error that is raised on purpose; its text is one sentence for the user.

    Attributes
    ----------
    hint : str or None
        Which choice of the caller would help: "overwrite" (allow outputs to be replaced), "resume" (go on from what was
        kept), "restart" (do not resume), or the name of an option. A command line words it in its own terms.
    """

    hint: str | None = None

    def with_hint(self, hint: str) -> Self:
        """Return this error, saying which choice of the caller would help."""
        self.hint = hint
        return self


class BackendUnavailableError(StackalignError, RuntimeError):
    """The device or backend that was asked for cannot be used here; the text names what to install."""


class MissingDependencyError(StackalignError, ImportError):
    """An optional package is needed for this file or option; the text names the extra to install."""


class DataError(StackalignError, ValueError):
    """A file or array cannot be used as it is; the text names the file, the item and the remedy."""


class MaskError(DataError, TypeError):
    """A mask is not boolean, or does not have the shape of the images; True = valid.

    It is a `ValueError` and a `TypeError`, so that either handler gets all masks that cannot be used.
    """


class OutputError(DataError):
    """An output cannot be written, as on a full disk; the text says what is needed."""


class UnfitStateError(DataError):
    """What an interrupted run has left is damaged or incomplete, so that no run can go on from it.

    Its argument is the reason; the text adds the remedy.
    """

    hint = "restart"

    def __str__(self) -> str:
        return f"{self.args[0]}; start again without resuming"


class OutputExistsError(StackalignError, FileExistsError):
    """The output exists and may not be replaced without being told to."""


class InputChangedError(DataError):
    """An input changed while it was read; nothing was written."""


class FinishedError(OutputExistsError):
    """An earlier run of the same plan has finished this output; ``record`` is what it has written.

    Parameters
    ----------
    message : str
    record : dict
        The record beside the output.
    """

    def __init__(self, message: str, record: dict[str, Any]) -> None:
        super().__init__(message)
        self.record = record


class OutputLockedError(StackalignError):
    """Another run is writing the output."""


class Interrupted(StackalignError):  # noqa: N818 -- it is a request to stop, not a fault
    """Work was stopped by a signal after the current chunk; what was done can be resumed."""


class StackalignWarning(UserWarning):
    """Category of the warnings of this package."""


class MaskWarning(StackalignWarning):
    """A mask leaves next to nothing: is its polarity right? True = valid."""
