"""Refine many patterns, each from a configuration into a file; on the workers of an executor, several at a time."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stackalign.errors import DataError, FinishedError, Interrupted, StackalignError
from stackalign.runs import StopRequest
from stackalign.runs.executor import width

from .files import Refined, refine_file

__all__ = ["RefinedPattern", "refine_files", "refined_name"]


@dataclass(frozen=True, eq=False)
class RefinedPattern:
    """What became of one pattern of `refine_files`.

    Parameters
    ----------
    config, output : Path
    status : str
        "done", "flagged", "failed", "earlier" where an earlier run has finished it, or "interrupted".
    message : str
        What went wrong.
    refined : Refined or None
        What this run has found.
    error : Exception or None
    """

    config: Path
    output: Path
    status: str
    message: str = ""
    refined: Refined | None = None
    error: Exception | None = None


def refine_files(
    configs: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    each: Callable[[RefinedPattern], None] | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    command: str | None = None,
) -> list[RefinedPattern]:
    """Refine the patterns of several configurations; one that fails does not stop the others.

    Parameters
    ----------
    configs : iterable of path-like
        TOML, see `load_config`.
    folder : path-like
        Where ``<stem>_refined.json`` of each is written; it must exist.
    workers, memory_limit, device, allow_external, read_timeout, resume, overwrite, command
        As for `refine_file`.
    each : callable, optional
        Is given what became of each pattern, in order, as soon as it and those before are there.
    stop : StopRequest, optional
        Ends those that are being worked on after the steps that they have done; no others are begun.
    executor : concurrent.futures.Executor, optional
        Where steps are taken. As many patterns are worked on as it has workers; it finds the same.

    Returns
    -------
    list of RefinedPattern
        In the order of the configurations.

    Raises
    ------
    DataError
        Two configurations would have one output.
    """
    place = Path(folder)

    def one(config: Path) -> RefinedPattern:
        output = refined_name(config, place)
        if stop:
            return RefinedPattern(config, output, "interrupted")
        try:
            refined = refine_file(
                config, output, workers=workers, memory_limit=memory_limit, device=device, resume=resume,
                allow_external=allow_external, read_timeout=read_timeout, overwrite=overwrite, stop=stop,
                executor=executor, command=command,
            )  # fmt: skip
        except FinishedError as error:
            return RefinedPattern(config, output, "earlier", str(error), error=error)
        except Interrupted as error:
            return RefinedPattern(config, output, "interrupted", str(error), error=error)
        except (StackalignError, ValueError, TypeError, OSError, MemoryError) as error:
            return RefinedPattern(config, output, "failed", str(error), error=error)
        return RefinedPattern(config, output, "done" if refined.ok else "flagged", refined=refined)

    paths = [Path(config) for config in configs]
    taken: dict[Path, Path] = {}
    for path in paths:
        output = refined_name(path, place)
        if taken.setdefault(output, path) is not path:
            msg = f"{taken[output]} and {path} have one output, {output}; rename one of them"
            raise DataError(msg)
    made: list[RefinedPattern] = []
    # Threads of the client only wait for the workers, and write the journals.
    with ThreadPoolExecutor(1 if executor is None else width(executor)) as clients:
        for pattern in map(one, paths) if executor is None else clients.map(one, paths):
            if each is not None:
                each(pattern)
            made.append(pattern)
    return made


def refined_name(config: Path, folder: Path) -> Path:
    """Output of a configuration by default."""
    return folder / f"{config.stem}_refined.json"
