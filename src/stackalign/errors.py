"""Exceptions and warnings that the package raises on purpose."""

__all__ = [
    "BackendUnavailableError",
    "DataError",
    "Interrupted",
    "MaskWarning",
    "MissingDependencyError",
    "OutputExistsError",
    "StackalignError",
    "StackalignWarning",
]


class StackalignError(Exception):
    """Base of every error that is raised on purpose; its text is one sentence for the user."""


class BackendUnavailableError(StackalignError, RuntimeError):
    """The device or backend that was asked for cannot be used here; the text names what to install."""


class MissingDependencyError(StackalignError, ImportError):
    """An optional package is needed for this file or option; the text names the extra to install."""


class DataError(StackalignError, ValueError):
    """A file or array cannot be used as it is; the text names the file, the item and the remedy."""


class OutputExistsError(StackalignError, FileExistsError):
    """The output exists and may not be replaced without being told to."""


class Interrupted(StackalignError):  # noqa: N818 -- it is a request to stop, not a fault
    """Work was stopped by a signal after the current chunk; what was done can be resumed."""


class StackalignWarning(UserWarning):
    """Category of the warnings of this package."""


class MaskWarning(StackalignWarning):
    """A mask leaves next to nothing: is its polarity right? True = valid."""
