"""Where the parts of an HDF5 file lie: links followed one by one, and storage in other files, all within bounds.

HDF5 follows links to other files, opens the sources of virtual datasets and reads raw external storage wherever their
names lead, and reads what is missing as zeros. Here links are followed by hand, so that each file is checked before it
is opened, and what stands for data is checked before the library is asked for them.
"""

import importlib
import itertools
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.errors import DataError
from stackalign.io._gate import Confinement, refuse_unwritten, require_file, require_share

__all__ = ["check_storage", "find", "open_dataset_within", "open_file", "read_small", "refuse_foreign"]

_LONGEST_CHAIN = 32
_SMALL = 64 << 20
_PRINTF = "%b"


def open_file(path: Path) -> Any:
    """Open an HDF5 file for reading, also where the file system knows no locks."""
    require_file(path, str(path))
    h5py = importlib.import_module("h5py")
    return h5py.File(path, "r", locking="best-effort")


def find(path: Path, name: str, bounds: Confinement, *, chain: int = 0) -> tuple[Path, str] | None:
    """Return the file and the place in it that a name leads to, over soft and external links; None where nothing is.

    Parameters
    ----------
    path : Path
        The file to begin in.
    name : str
        Place of an object in it.
    bounds : Confinement
        Where external links may lead.
    chain : int
        Links that were followed so far.

    Raises
    ------
    DataError
        A link leads outside, to a missing file, in circles, or is of an unknown kind.
    """
    with open_file(path) as file:
        h5py = importlib.import_module("h5py")
        group, place = file["/"], ""
        rest = deque(part for part in name.split("/") if part not in ("", "."))
        while rest:
            part = rest.popleft()
            if not isinstance(group, h5py.Group) or part not in group.keys():  # noqa: SIM118 -- `in` follows the link
                return None
            link = _link(group, part, path)
            if isinstance(link, h5py.HardLink):
                group, place = group[part], f"{place}/{part}"
                continue
            chain += 1
            if chain > _LONGEST_CHAIN:
                msg = f"the links of {path} go round in circles at {place}/{part}; repair the file"
                raise DataError(msg)
            if isinstance(link, h5py.ExternalLink):
                target = bounds.resolve(link.filename, path)
                return find(target, "/".join((link.path, *rest)), bounds, chain=chain)
            if link.path.startswith("/"):
                group, place = file["/"], ""
            rest.extendleft(part for part in reversed(link.path.split("/")) if part not in ("", "."))
        return path, place or "/"


def _link(group: Any, key: str, path: Path) -> Any:
    try:
        return group.get(key, getlink=True)
    except TypeError as error:
        msg = f"{path} has a link of an unknown kind at {group.name}/{key}; repair the file"
        raise DataError(msg) from error


def open_dataset_within(file: Any, name: str, path: Path, cache: int | None = None) -> Any:
    """Open a dataset so that names of its other files count from its own folder, with a chunk cache of some bytes."""
    h5py = importlib.import_module("h5py")
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    dataset = file[name]
    if isinstance(dataset, h5py.Dataset) and (dataset.external or dataset.is_virtual):
        # A dataset that is open already is shared, and keeps the folder that it was opened with.
        folder = str(path.parent.absolute()).encode()
        access.set_efile_prefix(folder)
        access.set_virtual_prefix(folder)
    if cache is not None:
        access.set_chunk_cache(521, cache, 1.0)
    dataset.id.close()
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def check_storage(dataset: Any, path: Path, bounds: Confinement, *, nested: int = 0) -> None:
    """Raise where the numbers of a dataset lie out of bounds, are missing, or were never written.

    Parameters
    ----------
    dataset : h5py.Dataset
    path : Path
        The file that it is in.
    bounds : Confinement
        Where its storage may lie.
    nested : int
        How many virtual datasets lead here.
    """
    label = f"{path}:{dataset.name}"
    if dataset.is_virtual:
        if nested > _LONGEST_CHAIN:
            msg = f"the virtual datasets of {path} go round in circles; repair the file"
            raise DataError(msg)
        parts = {part for source in dataset.virtual_sources() for part in _sources(source, path, bounds)}
        for file_name, name in sorted(parts):
            _check_source(file_name, name, path, bounds, nested)
        if not parts:
            refuse_unwritten(label, "none")
        return
    external = dataset.external
    if external:
        for name, offset, size in external:
            _check_external(name, int(offset), int(size), label, path, bounds, nested)
        return
    if dataset.size and dataset.id.get_storage_size() == 0:
        refuse_unwritten(label, "none")
    if dataset.chunks is not None:
        promised = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        require_share(int(dataset.id.get_num_chunks()), promised, "chunks", label)


def _sources(source: Any, path: Path, bounds: Confinement) -> list[tuple[str, str]]:
    """Names of file and dataset of a virtual source; `%b` stands for the numbers from 0 on, as far as files go."""
    file_name, name = source.file_name, source.dset_name
    if _PRINTF not in file_name and _PRINTF not in name:
        return [(file_name.replace("%%", "%"), name.replace("%%", "%"))]
    parts: list[tuple[str, str]] = []
    for k in itertools.count():
        numbered = tuple(text.replace(_PRINTF, str(k)).replace("%%", "%") for text in (file_name, name))
        target = path if numbered[0] == "." else path.parent / numbered[0]
        bounds.require_inside(target, f"{path} refers to {numbered[0]!r}")
        if not target.exists() or find(target, numbered[1], bounds) is None:
            break
        parts.append((numbered[0], numbered[1]))
        if _PRINTF not in file_name and len(parts) > 1_000_000:
            break
    if not parts:
        msg = f"{path} refers to parts named {file_name}:{name}, none of which is there; copy them beside the file"
        raise DataError(msg)
    return parts


def _check_source(file_name: str, name: str, path: Path, bounds: Confinement, nested: int) -> None:
    target = path if file_name == "." else bounds.resolve(file_name, path)
    place = find(target, name, bounds)
    if place is None:
        msg = f"{path} refers to {name} of {file_name}, which is missing; copy that file again"
        raise DataError(msg)
    with open_file(place[0]) as file:
        dataset = file[place[1]]
        check_storage(dataset, place[0], bounds, nested=nested + 1)
        importlib.import_module("stackalign.io.hdf5").require_filters(dataset, place[0])


def _check_external(
    name: str, offset: int, size: int, label: str, path: Path, bounds: Confinement, nested: int
) -> None:
    if nested and not Path(name).is_absolute() and not bounds.allow_external:
        msg = f"{label} keeps its data in {name!r}, which a virtual dataset cannot find; open {path.name} itself"
        raise DataError(msg)
    target = bounds.resolve(name, path)
    length = target.stat().st_size
    # HDF5 reads what is behind the end of such a file as zeros. The last size may be unlimited.
    if 0 < size < 1 << 63 and offset + size > length:
        msg = f"the part {name} of {label} is truncated: {offset + size} bytes are promised, it has {length}"
        raise DataError(msg)


def read_small(path: Path, name: str, bounds: Confinement) -> Any:
    """Return the value of a small dataset, within bounds; None where there is none."""
    place = find(path, name, bounds)
    if place is None:
        return None
    h5py = importlib.import_module("h5py")
    with open_file(place[0]) as file:
        item = file[place[1]]
        if not isinstance(item, h5py.Dataset) or (item.dtype.kind == "O" and item.shape):
            return None
        chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
        if max(math.prod(item.shape) * item.dtype.itemsize, chunk) > _SMALL:
            msg = f"{place[0]}:{place[1]} has the impossible shape {item.shape}; its header is damaged"
            raise DataError(msg)
        check_storage(item, place[0], bounds)
        importlib.import_module("stackalign.io.hdf5").require_filters(item, place[0])
        value = open_dataset_within(file, place[1], place[0])[()]
    return value.item() if isinstance(value, np.generic) and value.ndim == 0 else value


def refuse_foreign(path: Path, bounds: Confinement) -> None:
    """Check every link and every dataset of a file that another package will read."""
    h5py = importlib.import_module("h5py")
    with open_file(path) as file:
        names: list[str] = []

        def visit_link(name: str, link: Any) -> None:
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                names.append(name)

        def visit(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external or len(item.shape or ()) > 2):
                check_storage(item, path, bounds)

        file.visititems_links(visit_link)
        file.visititems(visit)
    for name in names:
        find(path, name, bounds)
