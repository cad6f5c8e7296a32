"""A dask scheduler and workers as processes of their own on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

__all__ = ["Cluster"]

DEADLINE = 60.0


class Cluster:
    """Context manager; workers can be killed, suspended and added."""

    def __init__(self, folder: Path, workers: int = 2, memory: str = "2GB") -> None:
        self._folder, self._count, self._memory = folder, workers, memory
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> "Cluster":
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        for _ in range(self._count):
            self.add()
        self.wait(self._count)
        return self

    def add(self) -> subprocess.Popen[bytes]:
        """Start a worker, without a nanny that would start it again."""
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", self._memory)
        worker = self._start("worker", self.address, *words)
        self.workers.append(worker)
        return worker

    def wait(self, count: int) -> None:
        """Wait until so many workers have registered."""
        from distributed import Client

        with Client(self.address, timeout=DEADLINE, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=DEADLINE)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"distributed.cli.dask_{words[0]}", *words[1:]]
        return subprocess.Popen(
            command, cwd=self._folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait(DEADLINE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
