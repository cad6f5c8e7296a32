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
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from faults import pipelines
from faults.injected import at_event, deny, fill_device, mounted, obey_permissions


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


class Place:
    """A pipeline, its inputs, and what a whole run of it is like.

    Parameters
    ----------
    name : str
    folder : Path
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.folder, self.run = folder, getattr(pipelines, name)
        getattr(pipelines, f"prepare_{name}")(folder)
        self.victim = folder / pipelines.VICTIM[name]
        self.good, times = self.victim.read_bytes(), self.victim.stat()
        self.times = times.st_atime_ns, times.st_mtime_ns
        whole = folder / "whole"
        whole.mkdir()
        # Not in a copy, so that the copies have the kernels and modules already; with one worker no thread is started.
        counted, called = at_event(whole, -1, lambda: None), fill_device(10**9, 0)
        said = self.run(folder, whole, resume=False)
        self.n_events, self.n_calls = counted(), called()
        sizes = [path.stat().st_size for path in whole.iterdir()]
        self.largest, self.bytes = max(sizes), sum(sizes)
        say(said=said, state=pipelines.state_of(whole))

    def faulty(self, fault: str, share: float, out: Path) -> Any:
        """Run it so that it meets a fault after a share of a whole run."""
        point = int(share * self.n_events)
        actions: dict[str, Callable[[], Any]] = {
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
            "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
            "gone": lambda: shutil.rmtree(out),
            "denied": lambda: deny(out),
            "cut": lambda: os.truncate(self.victim, len(self.good) // 2),
        }
        if fault in actions:
            at_event(out, point, actions[fault])
        if fault == "denied":
            obey_permissions()
        elif fault == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * self.largest), resource.RLIM_INFINITY))
        elif fault == "unreadable":
            os.truncate(self.victim, int(share * len(self.good)))
        elif fault == "memory" and self.n_calls:
            fill_device(int(share * self.n_calls), 10**9)
        elif fault == "memory":
            pipelines.no_memory_in_step = int(share * 2)
        return self.run(self.folder, out, resume=False)

    def mend(self, out: Path) -> None:
        """Undo what a fault has done, but for what it has cost."""
        if self.victim.read_bytes() != self.good:
            self.victim.write_bytes(self.good)
            os.utime(self.victim, ns=self.times)  # the time is part of what an input is recognised by
        out.mkdir(exist_ok=True)
        for path in (out, *out.glob("*.partial")):
            path.chmod(0o700)


def main() -> None:
    name, folder, faults = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    place = Place(name, folder)
    for fault, points in faults.items():
        for number, share in enumerate(points):
            out = folder / f"out_{fault}{number}"
            out.mkdir()
            with mounted(out, max(4096, int(share * place.bytes))) if fault == "disk" else nullcontext() as grow:

                def work(out: Path = out, fault: str = fault, share: float = share) -> Any:
                    return place.faulty(fault, share, out)

                status, said = two_at_once(work) if fault == "two" else forked(work)
                between = pipelines.state_of(out)
                place.mend(out)
                if fault == "disk":
                    grow()
                _, again = forked(lambda out=out: place.run(folder, out, resume=True))
                _, third = forked(lambda out=out: place.run(folder, out, resume=True))
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
