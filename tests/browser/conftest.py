"""Chromium, and one page of each kind that the commands write."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from cli.runner import run
from crop.oracle import disks

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make pages")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs a browser: make pages")

COMMANDS = ("crop", "align", "drift", "center", "peaks", "profile", "nfold", "mask", "coalign", "refine")


@dataclass
class Seen:
    """What a page said and asked for while it was open."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser: that of the system, or the one that Playwright was told of."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: no chromium on this machine, name one by CHROMIUM=")
    with sync_api.sync_playwright() as playwright:
        # A container gives Chromium's own sandbox no user to be.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Seen]]:
    """Open an address: opened(url, scheme="dark", width=400)."""
    contexts = []

    def open_page(url: str, scheme: str = "light", width: int = 1280) -> Seen:
        context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(120_000)  # milliseconds; a busy machine is slow, which is no fault of a page
        seen = Seen(context.new_page())
        seen.page.on("console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None)
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(url)
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def faults_of() -> Callable[[Any], list[str]]:
    """What axe-core finds wrong on a page: which rule, and where."""

    def faults(page: Any) -> list[str]:
        violations = axe.Axe().run(page).response["violations"]
        return [f"{v['id']}: {node['html'][:120]}" for v in violations for node in v["nodes"]]

    return faults


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with COMMAND.html for each command that writes a page."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(5)
    np.save(folder / "scan.npy", disks(12, frame=(32, 32)).reshape(3, 4, 32, 32))
    scene = gaussian_filter(rng.standard_normal((64, 64)), 2)
    frames = [shift(scene, (0.7 * k, -0.4 * k), mode="wrap") for k in range(3)]
    np.save(folder / "frames.npy", (frames + 0.02 * rng.standard_normal((3, 64, 64))).astype(np.float32))
    scan, series = folder / "scan.npy", folder / "frames.npy"
    command(folder, "crop", scan, "-o", folder / "cropped.npy")
    command(folder, "align", series, "-o", folder / "aligned.npy")
    command(folder, "drift", series, "-o", folder / "average.npy")
    command(folder, "center", scan, "-o", folder / "centers.csv")
    command(folder, "peaks", scan, "-o", folder / "peaks.csv")
    command(folder, "profile", scan, "-o", folder / "profiles.csv")
    command(folder, "nfold", scan, "-o", folder / "symmetric.npy", "--fold", 2)
    command(folder, "mask", scan, "-o", folder / "mask.npy")
    coalignment(folder)
    refinement(folder)
    return folder


def command(folder: Path, name: str, *arguments: Any) -> None:
    """Run a command with a page; a flagged result, exit code 1, has a page as well."""
    ran = run(name, *arguments, "--report", folder / f"{name}.html", "-q")
    assert (folder / f"{name}.html").is_file(), ran.err


def coalignment(folder: Path) -> None:
    """A raster and two frames of the synthetic Sun."""
    from stackalign import solar

    observation = solar.create_test_observation(error=(35.0, -20.0))
    observation.raster.save(folder / "raster.fits")
    images = []
    for k, frame in enumerate(observation.frames[:2]):
        images.append(folder / f"frame{k}.fits")
        frame.save(images[-1])
    command(folder, "coalign", folder / "raster.fits", *images, "-o", folder / "coaligned")


def refinement(folder: Path) -> None:
    """A pattern of silicon, and a configuration with two steps."""
    from refine.configuration import images, write_config

    command(folder, "refine", write_config(folder, images()))
