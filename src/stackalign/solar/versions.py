"""Versions of the packages that decide what coordinates mean."""

from functools import cache
from importlib import metadata

__all__ = ["solar_versions"]

PACKAGES = ("astropy", "sunpy", "reproject", "pyerfa", "ndcube")


@cache
def solar_versions() -> dict[str, str]:
    """Versions of those that are installed: frames, ephemerides, projections."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
