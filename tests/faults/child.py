"""Run a pipeline in forked copies of this process, each of which meets a fault; prints one line of JSON for each.

Arguments: the pipeline, a folder to work in, and in JSON the points of each kind of fault, as shares of a whole run.
"""

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import pipelines

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
"""What the interpreter tells audit hooks of when something in the folder of the outputs is touched."""


def at_event(out: Path, point: int, act: Callable[[], None]) -> Callable[[], int]:
    """Act just before the event of that number, from 0; returns a function that says how many there were."""
    count, busy = 0, False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, busy
        if busy or event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if not os.fspath(arguments[0]).startswith(str(out)):
            return
        count += 1
        if count == point + 1:
            busy = True
            act()
            busy = False

    sys.addaudithook(hook)
    return lambda: count


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Call a function in a copy of this process; returns its exit status, negative for a signal, and its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = json.dumps(work()).encode()
        except BaseException:  # an answer, too: no fault may end in a traceback
            answer = json.dumps([["traceback", traceback.format_exc()]]).encode()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.write(writing, answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(answer) if answer else None


def main() -> None:
    name, folder, faults = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    run, prepare = getattr(pipelines, name), getattr(pipelines, f"prepare_{name}")
    prepare(folder)
    out = folder / "whole"
    out.mkdir()
    # Not in a copy, so that the copies have the kernels and modules already; with one worker no thread is started.
    counted = at_event(out, -1, lambda: None)
    said, n_events = run(folder, out, resume=False), counted()
    largest = max(path.stat().st_size for path in out.iterdir())
    say(said=said, state=pipelines.state_of(out))
    for fault, points in faults.items():
        for number, share in enumerate(points):
            out = folder / f"out_{fault}{number}"
            out.mkdir()

            def faulty(out: Path = out, fault: str = fault, share: float = share) -> Any:
                point = int(share * n_events)
                if fault == "kill":
                    at_event(out, point, lambda: os.kill(os.getpid(), signal.SIGKILL))
                elif fault == "gone":
                    at_event(out, point, lambda: shutil.rmtree(out))
                elif fault == "full":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), resource.RLIM_INFINITY))
                return run(folder, out, resume=False)

            status, said = two_at_once(faulty) if fault == "two" else forked(faulty)
            between = pipelines.state_of(out)
            out.mkdir(exist_ok=True)
            _, again = forked(lambda out=out: run(folder, out, resume=True))
            _, third = forked(lambda out=out: run(folder, out, resume=True))
            after = pipelines.state_of(out)
            say(fault=fault, status=status, said=said, between=between, again=again, third=third, after=after)


def say(**facts: Any) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def two_at_once(work: Callable[[], Any]) -> tuple[int, Any]:
    """Two copies of this process that do the same; all that they say."""

    def second() -> Any:
        return forked(work)[1]

    reading, writing = os.pipe()
    other = os.fork()
    if not other:
        os.write(writing, json.dumps(second()).encode())
        os._exit(0)
    os.close(writing)
    status, said = forked(work)
    with os.fdopen(reading, "rb") as stream:
        more = json.loads(stream.read())
    os.waitpid(other, 0)
    return status, [*said, *more]


if __name__ == "__main__":
    main()
