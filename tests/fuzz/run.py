"""Damage files of every format, read them, and count what came of it: python tests/fuzz/run.py [--total N].

Inputs are numbered; the same number and seed give the same input. What kills or hangs a process, raises anything but an
error of the package, or takes more memory than it was given, is printed and makes the exit code 1.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SHARES = {
    "npy": 14, "npz": 10, "mib": 12, "raw": 8, "pt": 8, "tiff": 14, "fits": 6, "hdf5": 8, "arina": 5, "zarr2": 4,
    "zarr3": 4, "zarr_zip": 2, "vendor": 2, "pictures": 3,
}  # fmt: skip
"""Parts of a hundred."""


@dataclass
class Outcome:
    """What became of the inputs of one format."""

    inputs: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    survived: list[int] = field(default_factory=list)


def fuzz(kind: str, seed: int, total: int) -> Outcome:
    """Run inputs 0..total of a format, in as many processes as they kill."""
    outcome = Outcome(total)
    worker, start = Path(__file__).with_name("worker.py"), 0
    while start < total:
        command = [sys.executable, str(worker), kind, str(seed), str(start), str(total)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = start - 1
        for line in done.stdout.splitlines():
            if line.isdigit():
                last = int(line)
                continue
            report = json.loads(line)
            for name, count in report.get("counts", {}).items():
                outcome.counts[name] = outcome.counts.get(name, 0) + count
            if "survived" in report:
                outcome.survived.append(report["survived"])
            if "number" in report:
                outcome.findings.append(f"{kind} {seed} {report['number']}: {report.get('traceback', report)}")
        if done.returncode == 0:
            break
        if last < start:
            outcome.findings.append(f"{kind}: the worker did not start: {done.stderr[-2000:]}")
            break
        how = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        outcome.findings.append(f"{kind} {seed} {last}: {how}: {done.stderr[-1000:]}")
        start = last + 1
    return outcome


def main() -> None:
    """Run all formats, or those that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=list(SHARES))
    parser.add_argument("--total", type=int, default=100_000, help="inputs over all formats")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    inputs = findings = 0
    for kind in given.kinds:
        began = time.perf_counter()
        outcome = fuzz(kind, given.seed, max(1, given.total * SHARES[kind] // 100))
        inputs += outcome.inputs
        findings += len(outcome.findings)
        print(f"{kind}: {outcome.inputs} inputs in {time.perf_counter() - began:.0f} s: {outcome.counts}", flush=True)
        if outcome.survived:
            print(f"  ended the process that reads for us, and were named: {outcome.survived}", flush=True)
        for text in outcome.findings:
            print(f"  {text}", flush=True)
    print(f"{inputs} inputs, {findings} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
