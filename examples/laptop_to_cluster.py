"""
From a laptop to a cluster
==========================

The same function crops a file on one core, on several processes and on a dask cluster, and the output has the same
bytes each time. This tutorial shows that with a cluster within one machine. It needs the extra ``dask``.
"""

# %%
# A scan on disk.

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from stackalign.crop import CroppingConfig, create_test_data, crop_file

folder = Path(tempfile.mkdtemp())
np.save(folder / "scan.npy", create_test_data(400, 64, 0.0, seed=1, counts=5e4, radius=0.08, dtype=np.uint16))
config = CroppingConfig(visualization=False, verbose=False, chunk_size=50)


def digest(path):
    """Hash of a file, or of all files of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


# %%
# On this machine, with threads:

result = crop_file(folder / "scan.npy", folder / "threads.npy", config)
print("threads:", digest(folder / "threads.npy"), result.analysis.window)

# %%
# On a dask cluster. ``executor_for`` takes the address of any scheduler; here two threads in this process stand for a
# cluster's nodes. From the shell: ``stackalign crop scan.npy -o cluster.npy --scheduler tcp://node1:8786``.

try:
    from distributed import LocalCluster
except ImportError:
    print("distributed is not installed: nothing to show")
else:
    from stackalign.runs import executor_for

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        executor_for(cluster.scheduler_address) as executor,
    ):
        crop_file(folder / "scan.npy", folder / "cluster.npy", config, executor=executor)
    print("cluster:", digest(folder / "cluster.npy"))

# %%
# A run that is interrupted is taken up again with ``resume=True``, anywhere: the journal stays with the caller. Called
# for an output that is finished, it says so and does nothing.

from stackalign.errors import FinishedError

try:
    crop_file(folder / "scan.npy", folder / "threads.npy", config, resume=True)
except FinishedError as done:
    print("already finished:", done.record["run"]["status"])
