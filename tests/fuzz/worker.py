"""Open and read damaged files of one format, one after the other; say on stdout what is not as it should be.

Run as ``python worker.py FORMAT SEED START STOP``. Before each input its number is printed, so that whoever runs this
process knows at which one it died.
"""

import contextlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

from stackalign.diffraction.files import open_frames
from stackalign.errors import StackalignError
from stackalign.io import open_stack
from stackalign.io.images import open_images

sys.path.insert(0, str(Path(__file__).parent))
from mutate import mutate
from seeds import SEEDS

LIMIT = 64 << 20
SECONDS = 5
"""More than that is a hang. The process that reads for us has less, so that it is its end that is seen."""
SLACK = 256 << 20
"""Memory beyond the limit that is not yet a finding: allocators keep what was freed."""


def damaged(scratch: Path, names: list[str], rng: random.Random) -> Path:
    """Damage one file of a copy of all inputs, be it the one that is opened or one beside it or below it."""
    folder = scratch / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scratch / "pristine", folder)
    name = rng.choice(names)
    target = folder / name
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    own = [p for p in files if p == target or target in p.parents]
    chosen = rng.choice(own if rng.random() < 0.8 else files)
    chosen.write_bytes(mutate(chosen.read_bytes(), rng))
    return target


def attempt(path: Path, rng: random.Random) -> str:
    """Open and read an input; return what came of it."""
    opener = rng.choice((open_stack, open_images, open_frames))
    if path.suffix in (".png", ".jpg", ".bmp", ".gif", ".pgm", ".webp"):
        opener = open_frames
    try:
        with contextlib.closing(opener(path, memory_limit=LIMIT, read_timeout=SECONDS - 2)) as reader:
            count = reader.info.shape[0]
            block = min(3, count)
            if block * reader.info.pattern_bytes > LIMIT:
                return "too large"
            out = np.empty((block, *reader.info.shape[1:]), reader.info.dtype)
            for start in (0, count - block, rng.randrange(count - block + 1)):
                reader.read(start, start + block, out)
            reader.fingerprint()
    except StackalignError as error:
        if isinstance(error.__cause__, MemoryError):
            return "out of memory"
        return "crash survived" if "ended the process" in str(error) else "refused"
    return "read"


def main(kind: str, seed: int, start: int, stop: int) -> None:
    """Work through inputs start..stop."""
    warnings.simplefilter("ignore")
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        pristine = Path(scratch) / "pristine"
        pristine.mkdir()
        names = SEEDS[kind](pristine)
        for name in names:  # whatever is imported late is imported now, and valid files can be read
            with contextlib.closing((open_frames if kind == "pictures" else open_images)(pristine / name)) as reader:
                reader.read(0, 1, np.empty((1, *reader.info.shape[1:]), reader.info.dtype))
        soft = _data_bytes() + LIMIT * 4 + SLACK
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        highest = _peak()
        for number in range(start, stop):
            print(number, flush=True)
            rng = random.Random(f"{kind} {seed} {number}")
            path = damaged(Path(scratch), names, rng)
            signal.alarm(SECONDS * 2)
            try:
                outcome = attempt(path, rng)
            except Exception:
                outcome = "traceback"
                print(json.dumps({"number": number, "traceback": traceback.format_exc()}), flush=True)
            signal.alarm(0)
            if outcome == "crash survived":
                print(json.dumps({"survived": number}), flush=True)
            if _peak() > highest + LIMIT + SLACK:
                print(json.dumps({"number": number, "memory": _peak() - highest}), flush=True)
                highest = _peak()
            counts[outcome] = counts.get(outcome, 0) + 1
    print(json.dumps({"counts": counts}), flush=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData"):
            return int(line.split()[1]) * 1024
    return 1 << 30


if __name__ == "__main__":
    main(sys.argv[1], *(int(text) for text in sys.argv[2:5]))
