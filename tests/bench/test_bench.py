"""`stackalign bench`: what it measures, compares and writes, on tiny problems and on made-up results."""

import copy
import json
import re

import numpy as np
import pytest

from cli.runner import run
from stackalign import bench
from stackalign.bench import cases_ops, runner
from stackalign.bench.case import Case, Peer, Setting
from stackalign.bench.series import exponent
from stackalign.errors import DataError


def made_up(**options):
    """Results with two rows of each of two cases; times by case."""
    rows = []
    for case, size, seconds in (("a", 10, 1e-3), ("a", 100, 1e-2), ("b", 10, 2e-3), ("b", 40, 3.2e-2)):
        numbers = {"median": seconds, "lowest": seconds, "highest": seconds, "spread": 0.01 * seconds}
        peer = {"name": "other", "seconds": numbers, "over": 4.0 if case == "a" else 0.5}
        rows.append(
            {
                "group": "ops", "case": case, "problem": f"{size} things", "seconds": dict(numbers),
                "cpu_seconds": dict(numbers), "first_seconds": 1.0, "samples": 9, "unit": "things", "count": 1,
                "bytes": 1e3 * size, "operations": 1e4 * size, "series": ["things", size],
                "ceilings": {"read": 0.5, "arithmetic": 0.2}, "peers": [peer], "failed_peers": {},
            }
        )  # fmt: skip
    block = {
        "stackalign": "1", "device": "cpu", "cpu": "some <CPU>", "cores": 2, "workers": 2, "gpus": [], "load": 0.5,
        "platform": "here", "python": "3", "versions": {"numpy": "2"}, "time_utc": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    ceilings = {"read": 1e10, "copy": 1e10, "arithmetic": 1e11}
    settings = {"groups": ["ops"], "device": "cpu", "workers": 2, "size": "quick", "peers": True}
    found = {"format": 1, "machine": block, "ceilings": ceilings, "settings": settings, "rows": rows}
    return copy.deepcopy(found) | options


def slowed(found, factor, case="a"):
    """The same with other times of one case."""
    other = copy.deepcopy(found)
    for row in other["rows"]:
        if row["case"] == case:
            for key in ("seconds", "cpu_seconds"):
                row[key] = {name: value * factor for name, value in row[key].items()}
    return other


def test_the_clock_counts_calls_that_take_turns() -> None:
    order = []
    times = bench.take_turns({"x": lambda: order.append("x"), "y": lambda: order.append("y")}, rounds=4)
    assert len(times["x"].wall) == len(times["y"].cpu) == 4
    turns = re.sub(r"(.)\1+", r"\1", "".join(order))
    assert turns == "xy" * (len(turns) // 2)  # each sample may be several calls
    summary = times["x"].summary(share=0.5)
    assert summary["wall"]["median"] == pytest.approx(2 * np.median(times["x"].wall))


def test_a_slow_candidate_ends_after_its_samples() -> None:
    ticks = iter(range(10**6))
    times = bench.take_turns({"slow": lambda: next(ticks)}, rounds=50, seconds=0.0)
    assert len(times["slow"].wall) == 3


@pytest.mark.parametrize("group", sorted(set(bench.GROUPS) - {"coalign"}))
def test_every_group_measures_what_it_says(group) -> None:
    found = bench.run_benchmarks([group], device="cpu", workers=1, size="tiny", peers=True)
    json.dumps(found, allow_nan=False)
    assert found["rows"]
    for row in found["rows"]:
        assert row["seconds"]["lowest"] <= row["seconds"]["median"] <= row["seconds"]["highest"]
        assert row["first_seconds"] > 0
        assert row["samples"] >= 3
        assert not row["failed_peers"], row["failed_peers"]
        for name, share in row["ceilings"].items():
            counted = row["bytes"] if name == "read" else row["operations"]
            assert share == pytest.approx(counted / row["seconds"]["median"] / found["ceilings"][name])
    assert found["machine"]["cpu"]
    assert min(found["ceilings"].values()) > 0
    page = bench.markdown([found])
    assert all(f"`{row['case']}`" in page for row in found["rows"])


def test_rasters_are_coaligned_where_sunpy_is(monkeypatch) -> None:
    """Without the seconds that it takes."""
    solar = pytest.importorskip("stackalign.solar", reason="the group needs sunpy")
    pytest.importorskip("sunpy.map", reason="the group needs sunpy")
    monkeypatch.setattr(solar, "coalign", lambda raster, **options: (raster, options))
    (case,) = bench.GROUPS["coalign"](Setting("cpu", 1, "tiny"))
    raster, options = case.run()
    assert raster.data.shape == (60, 30)
    assert options["workers"] == 1
    monkeypatch.setattr("stackalign.bench.cases_pipelines.installed_peer", lambda module: False)
    assert not list(bench.GROUPS["coalign"](Setting("cpu", 1, "tiny")))


def test_peers_solve_the_same_problem() -> None:
    """What is timed beside us gives our answer."""
    setting = Setting("cpu", 1, "tiny", True)
    compared = 0
    for case in cases_ops.cases(setting):
        for peer in case.peers:
            ours, theirs = case.run(), peer.run()
            if case.name.startswith(("resample", "score")):
                ours = np.ravel(ours)[: np.asarray(theirs).size]
                theirs = np.ravel(np.asarray(theirs, np.float64))
                # Others have zeros, or let holes spread, where we have NaN.
                both = np.isfinite(ours) & np.isfinite(theirs) & (theirs != 0)
                assert both.mean() > 0.5
                np.testing.assert_allclose(theirs[both], ours[both], atol=2e-2)
                compared += 1
            elif case.name == "bin_mean":
                np.testing.assert_allclose(theirs, ours, rtol=1e-6)
                compared += 1
    assert compared >= 5


def test_a_peer_that_fails_is_named_and_stops_nothing() -> None:
    def fails():
        raise RuntimeError("no such thing")

    case = Case("x", "1 thing", lambda: None, "things", peers=(Peer("broken", fails), Peer("good", lambda: 1)))
    row = runner._row(case, Setting(size="tiny"), {"read": 1.0, "arithmetic": 1.0})
    assert row["failed_peers"] == {"broken": "RuntimeError: no such thing"}
    assert [peer["name"] for peer in row["peers"]] == ["good"]


def test_a_share_of_the_problem_is_scaled_up() -> None:
    ours, theirs = bench.Times(0.1, [1.0, 1.0], [1.0, 1.0]), bench.Times(0.1, [0.5, 0.5], [0.25, 0.25])
    peer = runner._peer("few", ours, theirs, share=0.1)
    assert peer["over"] == pytest.approx(5.0)
    assert peer["cpu_over"] == pytest.approx(2.5)
    assert peer["seconds"]["median"] == pytest.approx(5.0)


@pytest.mark.parametrize(("factor", "slower"), [(1.0, 0), (1.05, 0), (1.3, 2), (0.5, 0)])
def test_what_became_slower_is_told_from_noise(factor, slower) -> None:
    old = made_up()
    changes = bench.compare(old, slowed(old, factor))
    assert sum(change.slower for change in changes) == slower
    assert sum(change.faster for change in changes) == (2 if factor == 0.5 else 0)


def test_noisy_rows_need_a_larger_change() -> None:
    old = made_up()
    for row in old["rows"]:
        row["cpu_seconds"]["spread"] = 0.3 * row["cpu_seconds"]["median"]
    assert not any(change.slower for change in bench.compare(old, slowed(old, 1.3)))
    assert any(change.slower for change in bench.compare(old, slowed(old, 3.0)))


def test_a_device_is_compared_by_the_clock() -> None:
    old = made_up()
    old["settings"]["device"] = "cuda:0"
    new = copy.deepcopy(old)
    for row in new["rows"]:
        row["cpu_seconds"]["median"] *= 3
    assert not any(change.slower for change in bench.compare(old, new))


def test_results_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="no problem in common"):
        bench.compare(made_up(rows=[]), made_up())
    with pytest.raises(DataError, match="no results of stackalign bench"):
        bench.compare({"rows": [{}]}, made_up())


def test_growth_is_a_power_of_the_size() -> None:
    assert exponent([(n, 3e-6 * n**1.5) for n in (10, 40, 200)]) == pytest.approx(1.5)
    assert exponent([(10, 1.0), (10, 2.0)]) is None
    page = bench.markdown([made_up()])
    assert "| `a` | things | 10 to 100 | 1.00 |" in page
    assert "| `b` | things | 10 to 40 | 2.00 |" in page


def test_a_report_has_a_page_and_plots(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    for k in (1, 2):
        (tmp_path / f"{k}.json").write_text(json.dumps(made_up()))
    ran = run("bench", "report", tmp_path / "1.json", tmp_path / "2.json", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    assert len(shown) == 6
    assert all((tmp_path / "out" / name).stat().st_size > 1000 for name in shown)
    assert "0.5x other" in page


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (2.0, 1)])
def test_the_command_is_a_regression_check(factor, code, tmp_path, monkeypatch) -> None:
    old = made_up()
    (tmp_path / "old.json").write_text(json.dumps(old))
    monkeypatch.setattr("stackalign.bench.run_benchmarks", lambda *a, **k: slowed(old, factor))
    ran = run("bench", "ops", "--quick", "-o", tmp_path / "new", "--compare", tmp_path / "old.json")
    assert ran.code == code
    assert f"{0 if code == 0 else 2} of 4 problems became slower" in ran.err
    (path,) = (tmp_path / "new").glob("*.json")
    assert json.loads(path.read_text())["rows"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("everything",), 2, "no benchmark 'everything'"),
        (("report",), 2, "report needs files"),
        (("report", "x.json", "--quick"), 2, "report takes files only"),
        (("report", "x.json"), 1, "cannot be read"),
        (("ops", "--compare", "x.json"), 1, "cannot be read"),
        (("ops", "--tolerance", -1), 2, "--tolerance must be"),
        (("ops", "--workers", 0), 2, "--workers must be"),
        (("ops", "--device", "tpu"), 2, "tpu"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_measured(words, code, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stackalign.bench.runner.take_turns", lambda *a, **k: pytest.fail("something was measured"))
    ran = run("bench", *words)
    assert ran.code == code
    assert said in ran.err
    assert not list(tmp_path.iterdir())


def test_other_json_is_no_result(tmp_path) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    ran = run("bench", "report", tmp_path / "x.json", "-o", tmp_path / "out")
    assert ran.code == 1
    assert "holds no results of stackalign bench" in ran.err
