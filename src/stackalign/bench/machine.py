"""What the numbers were measured on."""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["machine", "slug"]

PACKAGES = (
    "numpy", "scipy", "numba", "llvmlite", "cupy-cuda13x", "cupy-cuda12x", "torch", "scikit-image", "opencv-python",
    "opencv-python-headless", "SimpleITK", "pyFAI", "scikit-ued", "abtem", "sunkit-image", "sunxcorr", "cucim-cu12",
    "cucim-cu13", "astropy", "sunpy",
)  # fmt: skip


def machine(device: str) -> dict[str, Any]:
    """Describe processor, device, threads, versions and the load at this moment; JSON-able."""
    from stackalign import __version__
    from stackalign.device import cuda_devices, default_workers

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    gpus = [{"name": gpu.name, "memory": gpu.memory} for gpu in cuda_devices()]
    return {
        "stackalign": __version__,
        "device": device,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "workers": default_workers(),
        "gpus": gpus,
        "load": load,
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    """Name of the processor, and its widest vectors."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    text = info.read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = " avx512" if " avx512f" in text else " avx2" if " avx2" in text else ""
    return (model[1] if model else platform.machine()) + flags


def slug(block: dict[str, Any]) -> str:
    """Name of a machine in names of files."""
    where = block["gpus"][0]["name"] if block["device"].startswith("cuda") and block["gpus"] else block["cpu"]
    return re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")
