"""Batches that meet a fault at some moment; resumed, they end as a whole run.

Moments are drawn by a seed: ``FAULT_POINTS`` says how many of each kind (3 by default).
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults.injected import MAY_MOUNT

POINTS = int(os.environ.get("FAULT_POINTS", "3"))


FEW = max(1, POINTS // 3)
FAULTS = {
    "kill": POINTS, "full": POINTS, "gone": POINTS, "two": 1 + POINTS // 3, "terminate": FEW, "interrupt": FEW,
    "denied": FEW, "cut": FEW, "unreadable": FEW, "memory": FEW, "disk": FEW if MAY_MOUNT else 0,
}  # fmt: skip
NAMES = {
    "kill": "SIGKILL", "full": "RLIMIT_FSIZE", "gone": "folder removed", "two": "two runs", "terminate": "SIGTERM",
    "interrupt": "SIGINT", "denied": "permission lost", "cut": "input cut", "unreadable": "chunk unreadable",
    "memory": "device out of memory", "disk": "disk full",
}  # fmt: skip


@pytest.fixture(scope="module", params=["coalign", "refine"])
def answers(request, tmp_path_factory) -> tuple[str, dict, list[dict]]:
    """What a whole run leaves, and what one did that met each fault and was then resumed, twice."""
    rng = np.random.default_rng([ord(letter) for letter in request.param])
    points = {fault: rng.uniform(0, 1, n).tolist() for fault, n in FAULTS.items()}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    folder = tmp_path_factory.mktemp(request.param)
    arguments = [request.param, folder, json.dumps(points)]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("child.py"), *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    whole, *runs = map(json.loads, ran.stdout.splitlines())
    assert len(runs) == sum(FAULTS.values())
    return request.param, whole, runs


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_work_but_no_result(fault: str, answers, point) -> None:
    pipeline, whole, runs = answers
    if not FAULTS[fault]:
        pytest.skip("needs the right to mount file systems")
    good = {"coalign": ["done", "done", "flagged"], "refine": ["done"]}[pipeline]
    assert [status for status, _ in whole["said"]] == good
    assert all(wrong is None for *_, wrong in whole["state"]["records"].values())
    for ran in runs:
        if ran["fault"] == fault:
            with point(NAMES[fault]):
                check_run(ran, whole)


def check_run(ran: dict, whole: dict) -> None:
    """Whatever happened is said, nothing wrong is left, and what is missing is made when the run is resumed."""
    if ran["fault"] == "kill":
        assert ran["status"] == -signal.SIGKILL
    else:
        check_sentences(ran["said"])
    # A record says that its output is finished: it is there, and it is what the record says.
    for name, record in ran["between"]["records"].items():
        if name in whole["state"]["records"]:
            assert record == whole["state"]["records"][name]
    assert {status for status, _ in ran["again"]} <= {"done", "flagged", "earlier"}, ran["again"]
    assert {status for status, _ in ran["third"]} == {"earlier"}, ran["third"]
    assert ran["after"] == whole["state"]


def check_sentences(said: list) -> None:
    """Whatever went wrong is said in one line that names a file, or that memory does not suffice."""
    for status, text in said:
        assert status in ("done", "flagged", "failed", "earlier", "interrupted"), text
        if status == "failed":
            assert text.count("\n") == 0
            assert "unexpected" not in text
            assert "[Errno" not in text
            assert any(word in text for word in ("out", "1.fits", "disks.npz", "memory")), text
