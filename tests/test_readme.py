"""The code of the README and of the pages for users runs, page by page, each in one namespace."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = ("start.md", "guide/*.md", "howto/*.md", "migrate/*.md")
"""Pages of docs/ whose code runs; that of the others is compiled by `test_docs.py`."""
NEEDS = {"README.md": ("sunpy", "matplotlib"), "coalign.md": ("sunpy", "matplotlib"), "coaligner.md": ("sunpy",)}
NEEDS["fits-headers.md"] = ("sunpy",)


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


OTHERS = ("other-programs",)
"""Pages whose code needs programs that no extra brings; it is compiled here."""
PAGES = [README, *(page for pattern in RUN for page in sorted((ROOT / "docs").glob(pattern)) if blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(page):
        if page.stem in OTHERS:
            compile(block, page.name, "exec")
            continue
        exec(compile(block, page.name, "exec"), namespace)
    printed = capsys.readouterr().out
    for pattern in EXPECTED.get(page.stem, ()):
        assert re.search(pattern, printed), printed
    for name in WRITTEN.get(page.stem, ()):
        assert (tmp_path / name).exists(), name


EXPECTED = {
    "README": (r"done \d\d% saved, lowest retention 0\.9", r"flags: none", r"True \(?\[?<?", r"by pairs, \d+ peaks"),
    "crop": (r"saved, lowest retention 0\.9",),
    "align": (r"flags: none",),
    "refine": (r"thickness found: 81[0-4]\n",),
    "array-api": (r"has to move by \[-3  5\]",),
    "bad-pixels": (r"\[\[ 4  5\]\n \[20 20\]\]", r"\[\[30 40\]\] [45]\d\.\d"),
    "choosing-a-model": (r"\('model_too_small', .* the images want sy", r"\(\) \[ 2\.3\d* "),
    "flags-and-error-bars": (r"True \(\)", r"undetermined: "),
    "masks": (r"\[12 12\]",),
    "skimage": (r"True\n",),
    "file-formats": (r"\(6, 8, 8\) \(2, 3\) uint16", r"\[256 257 258\]"),
    "beam-stop": (r"\[262\.\d+ +249\.\d+\]",),
}
"""Patterns of what pages print."""
WRITTEN = {"README": ("cropped_results.json", "raster_coaligned.fits"), "coalign": ("raster_coaligned.fits",)}


def test_commands_are_those_of_the_makefile() -> None:
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for target in ("demo", "test", "docs"):
        assert f"$ make {target}" in text
        assert re.search(rf"^{target}:", makefile, re.M)


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_measured_table_is_short_and_leads_to_the_page() -> None:
    _, _, rest = README.read_text().partition("<!-- measured: written by benchmarks/report.py -->")
    body, _, _ = rest.partition("<!-- /measured -->")
    rows = [line for line in body.splitlines() if line.startswith("|")][2:]
    assert 1 <= len(rows) <= 15
    assert all(row.count("|") == 6 for row in rows)
    assert "x read" in body
    assert "NO" not in body
    assert "(benchmarks/RESULTS.md)" in body


def test_measured_page_has_all_sections() -> None:
    page = (README.parent / "benchmarks" / "RESULTS.md").read_text()
    assert page.count("\n### ") >= 9
    assert "| NO |" not in page
    for part in page.split("\n### ")[1:]:
        assert "\n|---|" in part, part.partition("\n")[0]
