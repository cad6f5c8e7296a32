"""`stackalign info`: which device would be used and why, or what made a file."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import print_facts

__all__ = ["info"]

_EXTRAS = {
    "cupy": ("gpu13", "CUDA devices"),
    "torch": ("torch", ".pt files"),
    "matplotlib": ("plot", "pictures and reports"),
    "sunpy": ("solar", "coalignment of solar maps"),
    "astropy": ("solar", "FITS files, coalignment of solar maps"),
    "reproject": ("solar", "coalignment of solar maps"),
    "gemmi": ("refine", "CIF files"),
    "pywt": ("image", "baselines by wavelets"),
    "skimage": ("image", "pictures in colour, as scikit-ued reads them"),
    "PIL": ("image", "pictures such as .png and .jpg"),
    "hdf5plugin": ("hdf5", "compressed HDF5 (Arina, lz4)"),
    "rsciio": ("vendor", "dm3/dm4, blo, tvips, mrc, ser"),
    "dask": ("dask", "dask arrays"),
    "distributed": ("dask", "tasks on a dask cluster"),
    "dask_cuda": ("dask-cuda", "one worker for each GPU of a cluster"),
}
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "h5py", "zarr", "tifffile", "torch", "matplotlib", "rosettasciio")


def extra_of(error: ImportError) -> str | None:
    """What to install where an optional package could not be imported; None where it is not one of ours."""
    # sunpy.map turns what it misses into an ImportError of its own, without a name.
    name = (error.name or "").partition(".")[0] or ("sunpy" if "sunpy" in str(error) else "")
    if name not in _EXTRAS:
        return None
    extra, purpose = _EXTRAS[name]
    return f'{name} is not installed ({purpose}): pip install "stackalign[{extra}]"'


def collect() -> dict[str, Any]:
    """Everything that `stackalign info` knows, JSON-able."""
    import importlib.util

    from stackalign import __version__
    from stackalign.backends import BACKENDS, load
    from stackalign.device import available_memory, cuda_devices, default_memory_limit, default_workers
    from stackalign.errors import BackendUnavailableError

    backends = {}
    for name in BACKENDS:
        try:
            load(name)
            backends[name] = "available"
        except BackendUnavailableError as error:
            backends[name] = str(error)
    gpus = [{"index": gpu.index, "name": gpu.name, "memory": gpu.memory} for gpu in cuda_devices()]
    if gpus and backends["cuda"] == "available":
        chosen = {"device": "cuda:0", "why": f"{gpus[0]['name']} can be used"}
    elif gpus:
        chosen = {"device": "cpu", "why": backends["cuda"]}
    else:
        chosen = {"device": "cpu", "why": "no NVIDIA driver was found"}
    return {
        "stackalign": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "auto": chosen,
        "backends": backends,
        "gpus": gpus,
        "workers": default_workers(),
        "cores": os.cpu_count(),
        "memory_available": available_memory(),
        "memory_limit": default_memory_limit(),
        "kernel_cache": load("cpu").kernel_cache(),  # type: ignore[attr-defined]  # the CPU backend alone has one
        "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        "missing": {
            name: {"extra": extra, "needed_for": purpose}
            for name, (extra, purpose) in _EXTRAS.items()
            if importlib.util.find_spec(name) is None
        },
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def info(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Output of a command, or its record.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show devices, backends, versions, threads, memory budgets, and what is missing; or what made FILE."""
    if file is not None:
        from ._provenance import show

        show(file, as_json=as_json)
        return
    facts = collect()
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    from stackalign.device import format_bytes

    rows = [
        ("stackalign", f"{facts['stackalign']} on Python {facts['python']}, {facts['platform']}"),
        ("device auto", f"{facts['auto']['device']}: {facts['auto']['why']}"),
        *((f"backend {name}", state) for name, state in facts["backends"].items()),
        *((f"GPU {gpu['index']}", f"{gpu['name']}, {format_bytes(gpu['memory'])}") for gpu in facts["gpus"]),
        ("threads", f"{facts['workers']} of {facts['cores']} cores"),
        (
            "memory",
            f"{format_bytes(facts['memory_available'])} available, {format_bytes(facts['memory_limit'])} for buffers "
            "unless --memory-limit says otherwise",
        ),
        ("kernel cache", facts["kernel_cache"] or "none: kernels are compiled in every process"),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
    ]
    for name, missing in facts["missing"].items():
        rows.append((f"missing {name}", f'{missing["needed_for"]}: pip install "stackalign[{missing["extra"]}]"'))
    print_facts(rows)
