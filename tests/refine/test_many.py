"""Many patterns, here and on the workers of an executor: the same results, each in a file of its own."""

import json
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import pytest

from cli.runner import run
from refine.configuration import images, write_config
from stackalign.errors import DataError
from stackalign.refine import refine_files
from stackalign.runs import StopRequest


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two patterns that can be refined, and one whose configuration is wrong."""
    folder = tmp_path_factory.mktemp("many")
    text = write_config(folder, images()).read_text()
    one_step = text[: text.rindex("[[step]]")]
    # Coarse and narrow: what is compared is the same work done in other places, a dozen times over.
    for old, new in (("grid = 3\nfine_grid = 3", "grid = 6\nfine_grid = 6"), ("[300, 900]", "[560, 680]")):
        assert old in one_step
        one_step = one_step.replace(old, new)
    for name, words in {
        "a": one_step,
        "b": one_step.replace("[560, 680]", "[580, 650]").replace("height = 30", "height = 24"),
        "wrong": one_step.replace("disks.npz", "none.npz"),
    }.items():
        (folder / f"{name}.toml").write_text(words)
    return [folder / f"{name}.toml" for name in ("a", "wrong", "b")]


@pytest.fixture(scope="module")
def here(configs: list[Path]) -> dict[str, object]:
    """What is found without an executor."""
    folder = configs[0].parent / "here"
    folder.mkdir()
    made = refine_files(configs, folder, workers=1)
    assert [one.status for one in made] == ["done", "failed", "done"]
    assert "none.npz cannot be read" in made[1].message
    assert "\n" not in made[1].message
    return steps_in(folder)


def steps_in(folder: Path) -> dict[str, object]:
    """Results of all records in a folder, but for the time that they took."""
    found = {path.name: json.loads(path.read_text())["steps"] for path in sorted(folder.glob("*.json"))}
    for steps in found.values():
        for step in steps:
            step["result"].pop("seconds")
    return found


@pytest.mark.parametrize(
    "pool",
    [
        lambda: ThreadPoolExecutor(2),
        pytest.param(lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), marks=pytest.mark.slow),
    ],
    ids=["threads", "processes"],
)
def test_workers_find_the_same(pool, configs: list[Path], here: dict, tmp_path: Path) -> None:
    seen: list[str] = []
    with pool() as executor:
        made = refine_files(
            configs, tmp_path, workers=1, executor=executor, each=lambda one: seen.append(one.config.stem)
        )
    assert [one.status for one in made] == ["done", "failed", "done"]
    assert seen == ["a", "wrong", "b"]
    assert steps_in(tmp_path) == here
    again = refine_files(configs, tmp_path, workers=1, resume=True)
    assert [one.status for one in again] == ["earlier", "failed", "earlier"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # distributed warns of its own deprecations
def test_command_on_a_scheduler(configs: list[Path], here: dict, tmp_path: Path) -> None:
    """On workers of dask, in processes of their own."""
    pytest.importorskip("distributed")
    from faults.cluster import Cluster

    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", 2) as cluster:
        words = ("refine", *map(str, configs), "-o", str(tmp_path / "made"), "--scheduler", cluster.address, "--json")
        done = run(*words)
        again = run(*words, "--resume")
    assert done.code == 1, done.err
    assert [row["status"] for row in json.loads(done.out)] == ["done", "failed", "done"]
    assert steps_in(tmp_path / "made") == here
    assert again.err.count("finished by an earlier run") == 2
    assert steps_in(tmp_path / "made") == here


class Held(ThreadPoolExecutor):
    """Does its first task; the others wait for `go`."""

    def __init__(self) -> None:
        super().__init__(1)
        self.go = Event()
        self.n_tasks = 0

    def submit(self, function, /, *arguments, **options):
        self.n_tasks += 1
        if self.n_tasks == 1:
            return super().submit(function, *arguments, **options)
        return super().submit(lambda: self.go.wait() and function(*arguments, **options))


def test_stopped_and_resumed(configs: list[Path], here: dict, tmp_path: Path) -> None:
    stop = StopRequest()
    with Held() as executor:
        try:
            made = refine_files(
                configs, tmp_path, workers=1, executor=executor, stop=stop, each=lambda one: stop.request()
            )
        finally:
            executor.go.set()
    assert made[0].status == "done"
    assert made[-1].status == "interrupted"
    made = refine_files(configs, tmp_path, workers=1, resume=True)
    assert [one.status for one in made] == ["earlier", "failed", "done"]
    assert steps_in(tmp_path) == here


class Silent(Executor):
    """Takes tasks and never does them."""

    _max_workers = 1

    def submit(self, function, /, *arguments, **options):
        from concurrent.futures import Future

        return Future()


def test_a_stop_gives_up_the_step_that_is_waited_for(configs: list[Path], tmp_path: Path) -> None:
    import threading

    stop = StopRequest()
    threading.Timer(0.2, stop.request).start()
    made = refine_files(configs[:1], tmp_path, workers=1, executor=Silent(), stop=stop)
    assert [one.status for one in made] == ["interrupted"]
    assert not list(tmp_path.iterdir())


def test_one_output_of_two_configurations(configs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(configs[0].read_text())
    with pytest.raises(DataError, match=r"have one output, .*a_refined\.json; rename one of them"):
        refine_files([configs[0], tmp_path / "a.toml"], tmp_path)


def test_command(configs: list[Path], here: dict, tmp_path: Path) -> None:
    words = ("refine", *map(str, configs), "--workers", "1")
    done = run(*words, "-o", str(tmp_path / "made"), "--json")
    assert done.code == 1
    assert "none.npz cannot be read" in done.err
    assert [row["status"] for row in json.loads(done.out)] == ["done", "failed", "done"]
    assert steps_in(tmp_path / "made") == here
    again = run("refine", str(configs[0]), str(configs[2]), "-o", str(tmp_path / "made"), "--resume")
    assert (again.code, again.err.count("finished by an earlier run")) == (0, 2)
    for wrong in (("-o", "made.json"), ("-o", "made", "--report", "page.html"), ()):
        assert run(*words, *wrong).code == 2
