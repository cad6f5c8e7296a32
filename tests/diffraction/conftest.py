"""Real diffraction images that several tests share, with the masks that their README states."""

from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture(scope="session")
def diffraction_data(shared_data: Path) -> Path:
    """Folder of the real diffraction images."""
    return shared_data / "diffraction"


@pytest.fixture(scope="session")
def stem_data(shared_data: Path) -> Path:
    """Folder of small 4D-STEM files, the Merlin sets among them."""
    return shared_data / "stem"


@pytest.fixture(scope="session")
def chromium(diffraction_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cr_1 and Cr_2, polycrystalline chromium that has drifted, and the mask of the beam block, True = valid."""
    images = [tifffile.imread(diffraction_data / f"Cr_{k}.tif") for k in (1, 2)]
    mask = np.ones(images[0].shape, bool)
    mask[0:1250, 975:1225] = False
    return images[0], images[1], mask


@pytest.fixture(scope="session")
def graphite(diffraction_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """A single crystal behind a beam block with a line of artefacts; mask True = valid."""
    image = tifffile.imread(diffraction_data / "graphite.tif")
    mask = np.ones(image.shape, bool)
    mask[1100:, 442:480] = False
    mask[0:1260, 900:1140] = False
    return image, mask


@pytest.fixture(scope="session")
def mos2(diffraction_data: Path) -> np.ndarray:
    """Simulated monolayer with tiny spots."""
    return tifffile.imread(diffraction_data / "ab_initio_monolayer_mos2.tif")


@pytest.fixture(scope="session")
def hotspots(diffraction_data: Path) -> np.ndarray:
    """Three real spots among hundreds of hot pixels."""
    return tifffile.imread(diffraction_data / "hotspots.tif")
