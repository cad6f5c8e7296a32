"""Workers that are slow, run out of memory or drop off the network, and a client that is killed: the same bytes."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import digest, disks
from faults.children import run_child, start_child
from faults.cluster import Cluster, Hosts, may_make_hosts
from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_file
from stackalign.runs import executor_for

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # distributed warns of its own deprecations
CONFIG = CroppingConfig(visualization=False, chunk_size=4, workers=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", disks(40))
    crop_file(tmp_path / "in.npy", tmp_path / "whole.npy", CONFIG)
    return tmp_path / "in.npy"


def test_slow_worker(source: Path, tmp_path: Path) -> None:
    """One that stands still for a while holds up its chunk, and nothing else goes wrong."""
    with Cluster(tmp_path, 2) as cluster, executor_for(cluster.address) as executor:
        slow = cluster.workers[0]
        resumed = threading.Timer(3.0, slow.send_signal, [signal.SIGCONT])

        def progress(state) -> None:
            if state.stage == "crop" and state.done == 8 and not resumed.is_alive():
                slow.send_signal(signal.SIGSTOP)
                resumed.start()

        crop_file(source, tmp_path / "out.npy", CONFIG, executor=executor, progress=progress)
        resumed.join()
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


HOG = """
import os, time
from stackalign.runs import executor

flag = {flag!r}
if not hasattr(executor, "unfed"):  # a preloaded file is run twice
    executor.unfed = executor.run_chunk

def hungry(*arguments):
    if not os.path.exists(flag):
        open(flag, "w").close()
        held = [bytearray(os.urandom(1 << 20)) * 64 for _ in range(16)]  # 1 GB, of a worker that has 600 MB
        time.sleep(60)
        raise AssertionError(len(held))
    return executor.unfed(*arguments)

executor.run_chunk = hungry
"""


def test_worker_out_of_memory(source: Path, tmp_path: Path) -> None:
    """Its nanny ends it and starts another one, which does the chunk again."""
    flag, preload = tmp_path / "flag", tmp_path / "hog.py"
    preload.write_text(HOG.format(flag=str(flag)))
    with Cluster(tmp_path, 0) as cluster:
        cluster.add("--preload", str(preload), nanny=True, memory="600MB")
        cluster.wait(1)
        with executor_for(cluster.address) as executor:
            crop_file(source, tmp_path / "out.npy", CONFIG, executor=executor)
    assert flag.exists()
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


def test_client_killed_and_resumed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    words = ("crop", str(source), "-o", str(out), "--no-visualization", "--chunk-size", "4", "--workers", "1")
    with Cluster(tmp_path, 2) as cluster:
        words = (*words, "--scheduler", cluster.address)
        client = start_child(words, tmp_path / "log.txt")
        journal = tmp_path / "out.npy.partial" / "log.jsonl"
        while client.is_alive() and not (journal.exists() and journal.read_text().count("state") >= 2):
            time.sleep(0.005)
        assert client.is_alive(), (tmp_path / "log.txt").read_text()
        os.kill(client.pid, signal.SIGKILL)
        client.join(60)
        assert not out.exists()
        again = run_child((*words, "--resume"), tmp_path / "log.txt")
    assert again.code == 0, again.err
    assert digest(out) == digest(tmp_path / "whole.npy")


@pytest.mark.skipif(not may_make_hosts(), reason="needs network namespaces, and the right to make them")
def test_hosts_one_of_which_drops_off(source: Path, tmp_path: Path) -> None:
    """Scheduler and workers each have an address and a host name of their own; a cable is pulled in the second pass."""
    with Hosts(4) as hosts, Cluster(tmp_path, 3, hosts=hosts) as cluster, executor_for(cluster.address) as executor:
        diffraction.mask_file(source, tmp_path / "mask.npy", max_std=40.0, executor=executor)
        unplugged: list[str] = []

        def progress(state) -> None:
            if state.stage == "crop" and not unplugged:
                hosts.unplug(1)
                unplugged.append(state.stage)

        crop_file(source, tmp_path / "out.npy", CONFIG, executor=executor, progress=progress)
    diffraction.mask_file(source, tmp_path / "here.npy", max_std=40.0)
    assert (tmp_path / "mask.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()
    assert unplugged
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")
