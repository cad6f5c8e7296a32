"""Backends under test, skips that may not be silent, and the observations beside the checkout."""

import functools
import importlib
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

BACKEND_NAMES = ("reference", "cpu", "cuda-host", "cuda")
ALLOWED_SKIPS = (
    "needs a CUDA device",
    "the observations in ../shared/data",
    "needs the right to mount",
    "needs network namespaces",
    "needs a browser",
)
"""Reasons that stay skips under REQUIRE_ALL=1: what a runner may not have, and observations outside of the tree."""

_untested: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", choices=BACKEND_NAMES, action="append", help="Test this backend only; may be repeated."
    )


@functools.cache
def _load(name: str):
    """Return a backend, or the reason why it cannot be used."""
    from stackalign import backends
    from stackalign.errors import BackendUnavailableError

    if name == "cuda-host":
        backend = importlib.import_module("cuda_host.backend").BACKEND
        return backend, backend.unavailable()
    try:
        return backends.load(name), None
    except BackendUnavailableError as error:
        return None, f"needs a CUDA device: {error}" if name == "cuda" else str(error)


@pytest.hookimpl(trylast=True)  # the backends of a test come one after the other
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Without a device there are no tests of the backend ``cuda``; the summary says so."""
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("backend")
        if not chosen:
            chosen = [name for name in BACKEND_NAMES if name != "cuda" or _load(name)[1] is None]
            if "cuda" not in chosen:
                _untested["cuda"] = _load("cuda")[1]
        metafunc.parametrize("backend", chosen, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest):
    """Each backend in turn, at the level of the protocol."""
    loaded, reason = _load(request.param)
    if reason is not None:
        _untested[request.param] = reason
        if request.config.getoption("backend"):
            pytest.fail(f"--backend {request.param}: {reason}")
        pytest.skip(reason)
    return loaded


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers seeded by the test's name: the same in every run, different in every test."""
    seed = zlib.crc32(request.node.name.encode())
    request.node.user_properties.append(("rng", f"numpy.random.default_rng({seed})"))
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real observations beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the observations in ../shared/data are not here")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.failed:
        report.sections += [("rng", text) for name, text in item.user_properties if name == "rng"]
    return report if item.get_closest_marker("gpu") else _no_silent_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    return _no_silent_skip(report)


def _no_silent_skip(report):
    """Under REQUIRE_ALL=1 a skip is a failure, but for what this machine cannot have."""
    if os.environ.get("REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(allowed in reason for allowed in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"REQUIRE_ALL=1 does not allow: {reason}"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under pytest-xdist the workers collect, and the controller writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["untested"] = _untested


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    _untested.update(getattr(node, "workeroutput", {}).get("untested", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, reason in _untested.items():
        terminalreporter.write_line(f"backend {name} was not tested: {reason}")
