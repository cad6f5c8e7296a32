"""Six-fold averages under a mask, beside scikit-ued where an environment that has it is named; in turns.

CPU time of one thread, and wall time of all cores, which the peer cannot use.

The peer runs in a process of its own (``SKUED_PYTHON``, an interpreter that imports skued), which times each call
between those of ours.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from _harness import median, save
from stackalign.diffraction import nfold

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stackalign.diffraction.synthetic import beam_block

PEER = """
import sys, time
import numpy as np
from skued import nfold
image, mask = np.load(sys.argv[1]), np.load(sys.argv[2])
n = len(image)
for line in sys.stdin:
    began = time.process_time()
    nfold(image, mod=6, center=(0.52 * n, 0.49 * n), mask=mask)
    print(time.process_time() - began, flush=True)
"""
STACK = 8


class Peer:
    """scikit-ued in an interpreter of its own, on an image and a mask; None as interpreter for no peer."""

    def __init__(self, interpreter: str | None, image: np.ndarray, mask: np.ndarray) -> None:
        self._folder = tempfile.TemporaryDirectory()
        names = [f"{self._folder.name}/{name}.npy" for name in ("image", "mask")]
        np.save(names[0], image.astype(np.float64))
        np.save(names[1], mask)
        self._process = None
        if interpreter is not None:
            self._process = subprocess.Popen(
                [interpreter, "-c", PEER, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

    def times(self) -> list[float]:
        """CPU seconds of one more call, or nothing."""
        if self._process is None:
            return []
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return [float(self._process.stdout.readline())]

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
        self._folder.cleanup()


def case(side: int, interpreter: str | None) -> dict:
    image = np.random.default_rng(0).poisson(100, (side, side)).astype(np.float32)
    mask = beam_block(side)
    stack = np.repeat(image[None], STACK, axis=0)
    center = (0.49 * side, 0.52 * side)
    peer = Peer(interpreter, image, mask)
    times: dict[str, list[float]] = {"one": [], "stack": [], "all_cores": [], "peer": []}
    nfold(stack, 6, center=center, mask=mask, workers=1)
    for _ in range(5):
        for name, images in (("one", image), ("stack", stack)):
            began = time.process_time()
            nfold(images, 6, center=center, mask=mask, workers=1)
            times[name].append((time.process_time() - began) / (STACK if name == "stack" else 1))
        began = time.perf_counter()
        nfold(image, 6, center=center, mask=mask)
        times["all_cores"].append(time.perf_counter() - began)
        times["peer"] += peer.times()
    peer.close()
    row = {
        "case": f"{side}^2, 6-fold",
        "ms": median(times["one"]) * 1e3,
        "ms_in_stack": median(times["stack"]) * 1e3,
        "ms_all_cores": median(times["all_cores"]) * 1e3,
    }
    if times["peer"]:
        row["ms_scikit_ued"] = median(times["peer"]) * 1e3
        row["over"] = median([p / o for p, o in zip(times["peer"], times["one"], strict=True)])
        row["over_all_cores"] = median([p / o for p, o in zip(times["peer"], times["all_cores"], strict=True)])
        row["over_in_stack"] = median([p / o for p, o in zip(times["peer"], times["stack"], strict=True)])
    return row


def main() -> None:
    rows = []
    for side in (512, 1024, 2048):
        rows.append(case(side, os.environ.get("SKUED_PYTHON")))
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(f"saved {save('diffraction_nfold', rows)}")


if __name__ == "__main__":
    main()
