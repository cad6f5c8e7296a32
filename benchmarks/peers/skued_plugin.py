"""A pytest plug-in that puts `stackalign.compat.skued` in the place of scikit-ued's functions, before tests are found.

In an environment that has scikit-ued (GPL-3, never imported by stackalign) and stackalign::

    python -m pytest -p skued_plugin --pyargs skued.image skued.io skued.baseline

with this folder on PYTHONPATH. Nothing of scikit-ued is copied or read.
"""

import importlib
import pkgutil
import sys

from stackalign.compat import skued as ours

NAMES = [name for name in ours.__all__ if name != "brilluoin_zones"]


def pytest_configure(config) -> None:
    """Replace the functions in every module of scikit-ued that has them."""
    package = importlib.import_module("skued")
    for module in pkgutil.walk_packages(package.__path__, "skued."):
        if ".tests" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    originals = {name: getattr(package, name) for name in NAMES}
    replaced = 0
    for name, module in list(sys.modules.items()):
        if name == "skued" or name.startswith("skued."):
            for key, original in originals.items():
                if getattr(module, key, None) is original:
                    setattr(module, key, getattr(ours, key))
                    replaced += 1
    print(f"stackalign: {len(originals)} functions in the place of scikit-ued's, at {replaced} places")
