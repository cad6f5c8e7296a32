"""How often each pipeline is right, flagged, or wrong without a flag: the trust table.

``python benchmarks/bench_trust.py [PIPELINE ...] [--seeds N]`` runs the rows of every ``trust_<pipeline>.py`` beside
this file, or of those that are named, and saves them in ``results/trust-<pipeline>.json``; ``make trust`` runs them
all. ``python benchmarks/report.py trust`` prints what was saved.
"""

import argparse
import importlib
import os
import warnings

from _trust import HELD_OUT, PIPELINES, measured, save, table


def main() -> None:
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipelines", nargs="*", help=f"of {', '.join(PIPELINES)}; all by default")
    parser.add_argument("--seeds", type=int, default=None, help="runs per row, instead of each row's own number")
    parser.add_argument("--only", default="", help="rows whose name contains this; nothing is saved then")
    options = parser.parse_args()
    known = (*PIPELINES, *HELD_OUT)
    unknown = set(options.pipelines) - set(known)
    if unknown:
        parser.error(f"no rows for {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    warnings.simplefilter("ignore")
    for name in options.pipelines or PIPELINES:
        rows = [row for row in importlib.import_module(f"trust_{name}").rows() if options.only in row.name]
        found = measured(rows, options.seeds)
        print(f"\n# {name}\n\n{table(found)}")
        if not options.only:
            print(f"saved {save(name, found)}")


if __name__ == "__main__":
    main()
