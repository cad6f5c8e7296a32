"""The folder of compiled kernels follows from all that the code follows from, and is one that can be used."""

import json
import shutil
import sys
import types
from pathlib import Path

import numba
import pytest

from stackalign_kernels.cpu import _store

SOURCES = sorted(f.name for f in Path(_store.__file__).parent.glob("*.py"))


@pytest.fixture
def sources(monkeypatch, tmp_path) -> Path:
    """Make a copy of the kernels' sources, which the key is taken of."""
    copy = tmp_path / "sources"
    shutil.copytree(Path(_store.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_store, "files", lambda package: copy)
    return copy


def test_the_key_is_the_same_where_nothing_changed(sources) -> None:
    key = _store.sources_key()
    (sources / "__pycache__").mkdir()
    (sources / "notes.txt").write_text("not a source")
    assert _store.sources_key() == key


@pytest.mark.parametrize("name", SOURCES)
def test_a_change_of_any_source_changes_the_key(sources, name) -> None:
    before = _store.sources_key()
    (sources / name).write_text((sources / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert _store.sources_key() != before


def test_new_lost_and_renamed_sources_change_the_key(sources) -> None:
    keys = [_store.sources_key()]
    (sources / "new.py").write_text("")
    keys.append(_store.sources_key())
    (sources / "new.py").rename(sources / "newer.py")
    keys.append(_store.sources_key())
    (sources / "crop.py").unlink()
    keys.append(_store.sources_key())
    assert len(set(keys)) == 4


@pytest.mark.parametrize("name", _store.CODE_SETTINGS)
def test_settings_of_numba_change_the_key(monkeypatch, name) -> None:
    before = _store.sources_key()
    monkeypatch.setattr(numba.config, name, "another", raising=False)
    assert _store.sources_key() != before


def test_numba_and_the_processor_change_the_key(monkeypatch) -> None:
    keys = [_store.sources_key()]
    with monkeypatch.context() as patch:
        patch.setattr(numba, "__version__", "999.0")
        keys.append(_store.sources_key())
    with monkeypatch.context() as patch:
        patch.setattr(_store.binding, "get_host_cpu_name", lambda: "z80")
        keys.append(_store.sources_key())
    with monkeypatch.context() as patch:
        patch.setattr(_store.binding, "get_host_cpu_features", lambda: types.SimpleNamespace(flatten=lambda: "+none"))
        keys.append(_store.sources_key())
    assert len(set(keys)) == 4


@pytest.fixture
def bases(monkeypatch, tmp_path) -> tuple[Path, Path]:
    """Set the user's cache folder and the one for temporary files."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_store.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / "cache" / "stackalign" / "numba", _store.temporary_base()


def test_the_folder_is_beside_other_caches_unless_the_user_says_otherwise(monkeypatch, bases, tmp_path) -> None:
    assert _store.open_store("k" * 16) == _store.Store(bases[0] / ("stackalign-" + "k" * 16))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "configured"))
    assert _store.open_store("k").folder == tmp_path / "configured" / "stackalign-k"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert _store.open_store("k").folder == tmp_path / "chosen" / "stackalign-k"


@pytest.mark.parametrize("why", ["a file is in the way", "nothing can be written", "no room", "no home"])
def test_an_unusable_folder_gives_a_temporary_one(monkeypatch, bases, tmp_path, why) -> None:
    wanted, temporary = bases
    if why == "a file is in the way":
        (tmp_path / "cache").write_text("")
    elif why == "nothing can be written":
        plain = _store.tempfile.TemporaryFile

        def refuse(dir):
            if Path(dir).is_relative_to(tmp_path / "cache"):
                raise PermissionError(13, "Permission denied")
            return plain(dir=dir)

        monkeypatch.setattr(_store.tempfile, "TemporaryFile", refuse)
    elif why == "no room":
        free = {True: 1, False: 10**12}
        usage = lambda folder: types.SimpleNamespace(free=free[Path(folder).is_relative_to(tmp_path / "cache")])  # noqa: E731
        monkeypatch.setattr(_store.shutil, "disk_usage", usage)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(_store.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        assert _store.base_folder() == temporary
        return
    found = _store.open_store("k")
    assert found.folder == temporary / "stackalign-k"
    assert str(wanted) in found.reason
    assert temporary.stat().st_mode & 0o077 == 0


def test_a_folder_of_others_is_not_trusted(bases, tmp_path) -> None:
    (tmp_path / "cache").write_text("")
    bases[1].mkdir()
    bases[1].chmod(0o777)
    assert _store.open_store("k").folder is None
    bases[1].rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    bases[1].symlink_to(tmp_path / "elsewhere")
    assert _store.open_store("k").folder is None


def test_kernels_that_can_only_be_read_are_used(monkeypatch, bases) -> None:
    folder = _store.open_store("k").folder
    assert folder is not None
    (folder / "a.nbi").write_bytes(b"")
    monkeypatch.setattr(_store, "_sign", lambda folder: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert _store.open_store("k") == _store.Store(folder)


def test_stale_folders_are_removed(bases, tmp_path) -> None:
    base = bases[0]
    here = _store._installation()
    (tmp_path / "other").mkdir()
    users = {
        "0" * 16: [here],  # earlier sources of this installation
        "1" * 16: [{**here, "package": str(tmp_path / "gone")}],
        "2" * 16: [{**here, "prefix": str(tmp_path / "gone")}],
        "3" * 16: [{**here, "package": str(tmp_path / "other")}],  # another checkout
        "4" * 16: [here, {**here, "prefix": str(tmp_path / "other")}],  # another environment of the same checkout
        "5" * 16: [{**here, "cpu": "z80"}],  # another machine with the same home
    }
    for key, lines in users.items():
        folder = base / f"stackalign-{key}"
        folder.mkdir(parents=True)
        (folder / "users.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (base / ("stackalign-" + "6" * 16)).mkdir()  # being made
    (base / "compiled-radial-float32-0-numba-0.60").write_text("")
    (base / ("cpu_" + "a" * 40)).mkdir()
    (base / "of somebody else").mkdir()
    current = _store.open_store("7" * 16).folder
    removed = _store.remove_stale(current)
    names = {path.name for path in removed}
    assert names == {
        *(f"stackalign-{key * 16}" for key in "012"),
        "compiled-radial-float32-0-numba-0.60",
        "cpu_" + "a" * 40,
    }
    left = {path.name for path in base.iterdir()}
    assert left == {*(f"stackalign-{key * 16}" for key in "34567"), "of somebody else"}
    assert not _store.remove_stale(current)


def test_in_a_folder_of_the_user_only_our_own_are_removed(monkeypatch, bases, tmp_path) -> None:
    chosen = tmp_path / "chosen"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))
    folder = _store.open_store("0" * 16).folder
    (chosen / ("cpu_" + "a" * 40)).mkdir()
    assert _store.remove_stale(None) == [folder]
    assert [path.name for path in chosen.iterdir()] == ["cpu_" + "a" * 40]


def test_an_installation_signs_once(bases) -> None:
    folder = _store.open_store("k").folder
    _store.open_store("k")
    assert folder is not None
    assert _store._users(folder) == [_store._installation()]
    assert _store._users(folder)[0]["prefix"] == sys.prefix
