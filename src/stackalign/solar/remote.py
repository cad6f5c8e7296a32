"""Coalignments of files on the workers of an executor: they read and compute, the client locks, notes and publishes."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from stackalign.device import cuda_devices, default_workers
from stackalign.runs import StopRequest
from stackalign.runs.executor import AHEAD, result_of, width

from .coalign import run_jobs
from .tasks import Task, prepare

__all__ = ["RemoteResult", "absolute", "coalign_remotely", "in_turn", "local_processes"]

PER_PROCESS = 8
"""Tasks that are worth a process of their own, whose start takes as long as some of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteResult:
    """What a worker tells of a coalignment; the corrected file it has written itself.

    Parameters
    ----------
    record : dict
        `CoalignmentResult.to_dict`.
    ok : bool
    text : str
        The result in words.
    hdus : tuple of list or None
        Corrected and uncorrected HDUs of the file; None where none was written.
    """

    record: dict[str, Any]
    ok: bool
    text: str
    hdus: tuple[list[Any], list[Any]] | None


def coalign_remotely(
    task: Task, path: Path, *, again: bool, write_flagged: bool, device: str, workers: int | None
) -> RemoteResult:
    """Coalign one file and write the corrected one to `path`; may be repeated where a worker was lost."""
    prepared = prepare(task)
    job, _ = prepared.job(again)
    (result,) = run_jobs([job], device=device, workers=workers)
    if isinstance(result, BaseException):
        raise result
    hdus = None
    if result.ok or write_flagged:
        made = result.write_file(path, overwrite=True, again=again, flagged=write_flagged)
        hdus = list(made.corrected), list(made.left)
    return RemoteResult(result.to_dict(), result.ok, str(result), hdus)


@contextmanager
def local_processes(total: int, workers: int | None, device: str) -> Iterator[Executor | None]:
    """Give one process for each of some cores, as many as a batch is worth; None where that is one.

    Most of a coalignment is Python, which threads of one process take in turns.

    Parameters
    ----------
    total : int
        Number of tasks.
    workers : int, optional
        Most processes; one for each core that may be used by default.
    device : str
        Only tasks on the CPU are spread: a GPU is shared best within a process.
    """
    count = min(default_workers() if workers is None else workers, total // PER_PROCESS)
    on_cpu = device == "cpu" or (device == "auto" and not cuda_devices())
    if count < 2 or not on_cpu:
        yield None
        return
    # What was loaded here, threads above all, is not copied into the workers.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_leave_signals) as pool:
        yield pool


def _leave_signals() -> None:
    """A request to stop is that of the parent, which lets the workers finish what they have begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def absolute(task: Task) -> Task:
    """The task with names that hold in any working directory."""
    mask = task.settings.get("mask")
    named = {"mask": Path(mask).absolute()} if isinstance(mask, (str, os.PathLike)) else {}
    return replace(
        task,
        settings={**task.settings, **named},
        target=task.target.absolute(),
        references=tuple(path.absolute() for path in task.references),
        frames_dir=None if task.frames_dir is None else task.frames_dir.absolute(),
    )


def in_turn(
    executor: Executor,
    items: Iterator[T],
    submit: Callable[[T], "Future[RemoteResult] | None"],
    stop: StopRequest | None,
) -> Iterator[tuple[T, RemoteResult | BaseException | None]]:
    """Yield items in order with what became of their futures; no more are begun than the workers can hold.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    items : iterator
        Taken as they are needed; none is taken once `stop` is set.
    submit : callable
        Begins the work on an item; None where there is none.
    stop : StopRequest, optional
    """
    waiting: deque[tuple[T, Future[RemoteResult] | None]] = deque()
    most = AHEAD * width(executor)
    while True:
        while len(waiting) < most and not stop:
            try:
                item = next(items)
            except StopIteration:
                break
            waiting.append((item, submit(item)))
        if not waiting:
            return
        item, future = waiting.popleft()
        try:
            yield item, None if future is None else result_of(executor, future, stop)
        except GeneratorExit:
            raise
        except Exception as error:  # whatever is wrong with one file is no reason to lose the others
            yield item, error
