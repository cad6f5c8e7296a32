"""Run a module of this folder under a sanitizer, in a process of its own: a report must not end the test run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from cuda_host.host import sanitizer_environment

__all__ = ["REPORTS", "Outcome", "run"]

REPORTS = ("ERROR: AddressSanitizer", "runtime error:", "WARNING: ThreadSanitizer", "FATAL: ")
TIMEOUT = 900


class Outcome(NamedTuple):
    """Exit status, and everything that was printed."""

    status: int
    text: str

    @property
    def reported(self) -> bool:
        return any(r in self.text for r in REPORTS)


def run(sanitizer: str, module: str, *arguments: str) -> Outcome:
    """Run ``python -m module SANITIZER arguments...``, where kernels built with the sanitizer can be loaded.

    "plain" is no sanitizer.
    """
    environment = dict(os.environ) if sanitizer == "plain" else sanitizer_environment(sanitizer)
    # What this process can import, the other must find as well, however pytest came to its path.
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    command = [sys.executable, "-m", module, sanitizer, *arguments]
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)
