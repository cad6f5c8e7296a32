"""The script for Slurm job arrays of the documentation, with a stand-in for `sbatch`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import digest, disks

PAGE = Path(__file__).parents[1] / "docs" / "running" / "laptop-workstation-cluster.md"

SBATCH = """#!/bin/bash
# Does the tasks of an array one after the other, as a queue of one would: sbatch --array=FIRST-LAST SCRIPT
range=${1#--array=}
for ((k = ${range%-*}; k <= ${range#*-}; k++)); do
    SLURM_ARRAY_TASK_ID=$k bash "$2" || failed=1
done
exit ${failed:-0}
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the script is one of bash")
def test_job_array(tmp_path: Path) -> None:
    """Each task crops its file; submitted again, the array makes what is missing and leaves alone what is finished."""
    (block,) = re.findall(r"^```bash\n(#!/bin/bash\n#SBATCH --array.*?)```", PAGE.read_text(), re.M | re.S)
    scans, cropped = tmp_path / "scans", tmp_path / "cropped"
    scans.mkdir()
    cropped.mkdir()
    for k in range(2):
        np.save(scans / f"scan{k}.npy", disks(8 + k))
    script = block
    for words, here in (
        ("/data/scans/*.mib", f"{scans}/*.npy"),
        (" .mib)", " .npy)"),
        ("/scratch/cropped", str(cropped)),
    ):
        assert words in script
        script = script.replace(words, here)
    (tmp_path / "array.sh").write_text(script)
    (tmp_path / "sbatch").write_text(SBATCH)
    command = tmp_path / "stackalign"
    command.write_text(f'#!/bin/bash\nexec {sys.executable} -W ignore -m stackalign.cli "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}

    def submit() -> None:
        words = ["bash", str(tmp_path / "sbatch"), "--array=0-1", str(tmp_path / "array.sh")]
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr

    submit()
    outputs = [cropped / f"scan{k}.h5" for k in range(2)]
    first = [(digest(path), path.stat().st_mtime_ns) for path in outputs]
    for path in cropped.glob("scan1*"):
        path.unlink()
    submit()
    assert [digest(path) for path in outputs] == [one for one, _ in first]
    assert outputs[0].stat().st_mtime_ns == first[0][1]
