"""The page about crops."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from stackalign.io import Calibration
from stackalign.io.provenance import provenance
from stackalign.plot import write_crop_report

from .synthetic import make_result

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.images, self.links, self.tables = [], [], [], [], []
        self.words = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.links += [found[k] for k in ("href", "src") if k in found]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        return next(rows[1:] for rows in self.tables if rows[0][: len(head)] == list(head))

    def facts(self):
        return {row[0]: row[1] for rows in self.tables for row in rows if len(row) == 2}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    first = make_result(
        (12, 15),
        flagged={3: 1, 20: 8 | 2},
        outliers={77: 25},
        fit=True,
        input_name="/data/<script>alert(1)</script>&.h5",
    )
    record = provenance(
        first.config.to_dict(),
        [{"path": "scan.h5", "fingerprint": "sha256:0123abcd"}],
        device="a device <0>",
        command="stackalign crop 'a<b>.h5'",
    )
    first = dataclasses.replace(
        first,
        provenance=record,
        status="short",
        messages=("3 patterns keep < 0.95",),
        calibration=Calibration((0.1, 0.2), "1/nm"),
    )
    second = make_result((40,), input_name="series.npy")
    write_crop_report(iter([first, second]), path, title="Session <7>")
    return path, Page(path), first, second


def test_the_summary_has_one_row_per_file(two):
    _, page, first, _ = two
    rows = page.table("file", "patterns")
    assert len(rows) == 2
    used = first.validation.used
    assert rows[0] == [
        "script>&.h5",  # the last part of the path
        "180",
        "64 × 64",
        "28",
        "57 × 57",
        f"{first.saved:.1%}",
        f"{used.mean():.4f}",
        f"{used.min():.4f}",
        "2",
        "short",
    ]
    assert rows[1][0] == "series.npy"
    assert rows[1][9] == "done"


def test_the_page_needs_nothing_else(two):
    path, page, *_ = two
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", source)
    assert "script" not in page.tags
    assert "link" not in page.tags
    pictures = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert len(pictures) == 4  # two for each file
    for picture in pictures:
        assert base64.b64decode(picture.partition(",")[2], validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    assert set(page.links) - set(pictures) == {"#file-1", "#file-2"}
    assert "prefers-color-scheme: dark" in source
    assert "@media print" in source
    assert len(source) < 1_500_000


def test_everything_is_escaped(two):
    path, page, *_ = two
    source = path.read_text(encoding="utf-8")
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;.h5" in source
    for text in ("Session <7>", "3 patterns keep < 0.95", "a note on <the> data", "a device <0>", "crop 'a<b>.h5'"):
        assert text in page.text


def test_facts_configuration_and_provenance(two):
    _, page, first, _ = two
    text = page.text
    facts = page.tables[1]
    assert ["shape", "64 × 64 → 57 × 57 px"] in facts
    assert ["left out as flagged", "2 of 180"] in facts
    assert ["plane through the centres", "residual rms y 0.123, x 0.0456 px"] in facts
    assert ["pixel size (y × x)", "0.1 × 0.2 1/nm"] in facts
    for name, value in first.config.to_dict().items():
        assert f"{name} {value}" in text
    assert "sha256:0123abcd" in text
    assert f"numpy {np.__version__}" in text


def test_flagged_patterns_in_words(two):
    _, page, first, _ = two
    total = first.analysis.total
    assert page.table("index", "scan position", "flags") == [
        ["3", "(0, 3)", "empty", "yes", "0", "0"],
        ["20", "(1, 5)", "non finite, hot pixel", "yes", f"{total[20]:.6g}", str(first.analysis.radii[20])],
    ]


def test_the_ten_largest_radii(two):
    _, page, first, _ = two
    rows = page.table("index", "scan position", "radius (px)")
    assert len(rows) == 10
    assert rows[0][:4] == ["77", "(5, 2)", "25", f"{first.validation.retentions[77]:.4f}"]
    radii = [int(row[2]) for row in rows]
    assert radii == sorted(radii, reverse=True)


def test_long_lists_end_with_a_count(tmp_path):
    path = tmp_path / "r.html"
    write_crop_report([make_result((30, 30), flagged=dict.fromkeys(range(100, 350), 4))], path)
    page = Page(path)
    assert len(page.table("index", "scan position", "flags")) == 200
    assert "… and 50 more." in page.text
    assert "250 of 900 patterns: negative 250." in page.text


@pytest.mark.parametrize(
    "case",
    [
        {"scan": (1,), "frame": (8, 8), "radius": 3, "retentions": np.full(1, np.nan), "mean": np.zeros((8, 8))},
        {"scan": (2, 3), "flagged": dict.fromkeys(range(6), 1)},
        {"input_name": "", "input_bytes": 0},
        {"input_name": "bytes that are no text \udcff.h5", "provenance": {"inputs": ["scan.h5"], "versions": None}},
    ],
)
def test_inputs_at_the_edge(case, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("an older page")
    write_crop_report([make_result(**case)], path)
    assert Page(path).facts()["patterns"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_crop_report([], tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
