"""How often each pipeline is right, flagged, or wrong without a flag: the trust table.

``python benchmarks/bench_trust.py [PIPELINE ...] [--seeds N]`` runs the rows of every ``trust_<pipeline>.py`` beside
this file, or of those that are named, and saves them; ``make trust`` runs them all.
"""

import argparse
import importlib
import os
import warnings
from pathlib import Path

from _harness import save
from _trust import measured, table

HERE = Path(__file__).parent


def main() -> None:
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    every = sorted(path.stem.removeprefix("trust_") for path in HERE.glob("trust_*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipelines", nargs="*", help=f"of {', '.join(every)}; all by default")
    parser.add_argument("--seeds", type=int, default=None, help="runs per row, instead of each row's own number")
    parser.add_argument("--only", default="", help="rows whose name contains this; nothing is saved then")
    options = parser.parse_args()
    unknown = set(options.pipelines) - set(every)
    if unknown:
        parser.error(f"no rows for {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    warnings.simplefilter("ignore")
    for name in options.pipelines or every:
        rows = [row for row in importlib.import_module(f"trust_{name}").rows() if options.only in row.name]
        found = measured(rows, options.seeds)
        print(f"\n# {name}\n\n{table(found)}")
        if not options.only:
            print(f"saved {save(f'trust_{name}', found)}")


if __name__ == "__main__":
    main()
