"""Common inputs, and a count of the faults that were met: ``faults: survived N of M`` ends a run of these tests."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import disks

_KEY = "fault point"


@pytest.fixture(scope="session")  # tables name the inputs: all tests of a process have the same
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and what each command makes of them undisturbed."""
    folder = tmp_path_factory.mktemp("faults")
    stack = disks(60)
    np.save(folder / "in.npy", stack)
    np.save(folder / "short.npy", stack[:10])
    return folder


@pytest.fixture
def point(request: pytest.FixtureRequest) -> Callable[[str], AbstractContextManager[None]]:
    """Context manager for one fault, of the kind that is named: survived where the checks within it pass."""

    @contextmanager
    def counted(kind: str) -> Iterator[None]:
        survived = False
        try:
            yield
            survived = True
        finally:
            request.node.user_properties.append((_KEY, [kind, survived]))

    return counted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many were survived, and how many there were of each kind."""
    total, survived = Counter[str](), 0
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in report.user_properties if report.when == "call" else ():
                if name == _KEY:
                    total[value[0]] += 1
                    survived += value[1]
    if total:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(total.items()))
        terminalreporter.write_line(f"faults: survived {survived} of {total.total()} ({kinds})")
