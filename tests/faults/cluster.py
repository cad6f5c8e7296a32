"""A dask scheduler and workers as processes of their own, on the loopback interface or on hosts of their own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Cluster", "Hosts", "may_make_hosts"]

DEADLINE = 60.0
TIMEOUT = "12s"
"""After which a silent host counts as gone; distributed takes no less than 11 s."""


class Hosts:
    """Context manager: network namespaces, each with its own address and host name, on one bridge.

    Parameters
    ----------
    count : int
    """

    def __init__(self, count: int) -> None:
        mark = f"{os.getpid() % 10_000:04}"
        self._bridge, self._net = f"sab{mark}", f"10.{os.getpid() % 200 + 20}.7"
        self.names = [f"sah{mark}{k}" for k in range(count)]
        self.here = f"{self._net}.1"

    def address(self, k: int) -> str:
        """Of a host."""
        return f"{self._net}.{k + 2}"

    def __enter__(self) -> "Hosts":
        try:
            ip("link", "add", self._bridge, "type", "bridge")
            ip("addr", "add", f"{self.here}/24", "dev", self._bridge)
            ip("link", "set", self._bridge, "up")
            for k, name in enumerate(self.names):
                ip("netns", "add", name)
                ip("link", "add", f"{name}o", "type", "veth", "peer", "name", f"{name}i")
                ip("link", "set", f"{name}i", "netns", name)
                ip("link", "set", f"{name}o", "master", self._bridge, "up")
                ip("-n", name, "addr", "add", f"{self.address(k)}/24", "dev", f"{name}i")
                ip("-n", name, "link", "set", f"{name}i", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def on(self, k: int) -> tuple[str, ...]:
        """Words before a command that is to run on a host."""
        name = self.names[k]
        return ("ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh")

    def unplug(self, k: int) -> None:
        """Pull the cable of a host."""
        ip("link", "set", f"{self.names[k]}o", "down")

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            ip("netns", "del", name, check=False)
        ip("link", "del", self._bridge, check=False)


def ip(*words: str, check: bool = True) -> None:
    """Call the command of this name."""
    subprocess.run(["ip", *words], check=check, capture_output=True)


def may_make_hosts() -> bool:
    """Tell whether this process may make network namespaces, by making one."""
    try:
        with Hosts(1) as hosts:
            subprocess.run([*hosts.on(0), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Cluster:
    """Context manager; workers can be killed, suspended and added.

    Parameters
    ----------
    folder : Path
        Working directory of all.
    workers : int
    memory : str
        Of each worker.
    hosts : Hosts, optional
        The scheduler runs on the first one, the workers on the others in turn.
    """

    def __init__(self, folder: Path, workers: int = 2, memory: str = "2GB", hosts: Hosts | None = None) -> None:
        self._folder, self._count, self._memory, self._hosts = folder, workers, memory, hosts
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = _free_port()
        self.host = "127.0.0.1" if hosts is None else hosts.address(0)
        self.address = f"tcp://{self.host}:{self.port}"

    def __enter__(self) -> "Cluster":
        self.scheduler = self._start(0, "scheduler", "--host", self.host, "--port", str(self.port), "--no-dashboard")
        for _ in range(self._count):
            self.add()
        if self._count:
            self.wait(self._count)
        return self

    def add(self, *more: str, nanny: bool = False, memory: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker, with or without a nanny that starts it again."""
        where = 0 if self._hosts is None else 1 + len(self.workers) % (len(self._hosts.names) - 1)
        words = ("--nthreads", "1", "--no-dashboard", "--memory-limit", memory or self._memory, *more)
        if not nanny:
            words = ("--no-nanny", *words)
        if self._hosts is not None:
            words = ("--host", self._hosts.address(where), *words)
        worker = self._start(where, "worker", self.address, *words)
        self.workers.append(worker)
        return worker

    def wait(self, count: int) -> None:
        """Wait until so many workers have registered."""
        from distributed import Client

        with Client(self.address, timeout=DEADLINE, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=DEADLINE)

    def _start(self, where: int, what: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        environment |= {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": TIMEOUT}
        before: Sequence[str] = () if self._hosts is None else self._hosts.on(where)
        command = [*before, sys.executable, "-m", f"distributed.cli.dask_{what}", *words]
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
