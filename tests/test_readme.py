"""The README's code runs, in order, in one namespace."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    found = blocks()
    assert len(found) >= 4
    for block in found:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "saved, lowest retention 0.9" in printed
    assert re.search(r"thickness found: 81[0-4]\n", printed)
    assert (tmp_path / "cropped_results.json").exists()
    assert namespace["result"].ok  # type: ignore[attr-defined]
    assert (tmp_path / "raster_coaligned.fits").exists()


def test_commands_are_those_of_the_makefile() -> None:
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"$ make {target}" in text
        assert re.search(rf"^{target}:", makefile, re.M)


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
