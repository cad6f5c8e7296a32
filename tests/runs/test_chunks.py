"""Chunks from a budget, reading ahead, progress, stopping by a signal, and halving where memory does not suffice."""

import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from stackalign.errors import Interrupted
from stackalign.io import open_array
from stackalign.runs import ChunkPlan, Progress, StopRequest, map_halving, read_chunks

TIMEOUT = 60.0
"""Seconds after which a wait for another thread is a failure; nothing here waits by design."""


@pytest.mark.parametrize(
    ("n_items", "item_bytes", "budget", "largest", "size"),
    [
        (10, 100, 350, None, 3),
        (10, 100, 10**9, None, 10),
        (10, 100, 10**9, 4, 4),
        (10, 100, 350, 4, 3),
        (10, 100, 1, None, 1),
        (10, 100, 0, None, 1),
        (10, 0, 7, None, 7),
        (0, 100, 350, None, 1),
    ],
)
def test_size_from_a_budget(n_items: int, item_bytes: int, budget: int, largest: int | None, size: int) -> None:
    assert ChunkPlan.from_budget(n_items, item_bytes, budget, largest) == ChunkPlan(n_items, size)


@pytest.mark.parametrize("n_items", [0, 1, 5, 6, 7, 12])
@pytest.mark.parametrize("size", [1, 3, 6, 100])
def test_ranges_cover_every_item_once(n_items: int, size: int) -> None:
    plan = ChunkPlan(n_items, size)
    ranges = list(plan.ranges())
    assert [i for first, last in ranges for i in range(first, last)] == list(range(n_items))
    assert all(last - first == size for first, last in ranges[:-1])
    assert all(0 < last - first <= size for first, last in ranges)
    assert len(plan) == len(ranges)


def test_ranges_from_where_a_run_stopped() -> None:
    plan = ChunkPlan(10, 4)
    assert list(plan.ranges(8)) == [(8, 10)]
    assert list(plan.ranges(4)) == list(plan.ranges())[1:]
    assert list(plan.ranges(10)) == []


class Recording:
    """A reader that notes its calls, and can be told to fail or to tell when it has read."""

    def __init__(self, data: np.ndarray, fail_at: int | None = None) -> None:
        self.data = data
        self.info = open_array(data).info
        self.fail_at = fail_at
        self.calls: list[tuple[int, int]] = []
        self.addresses: list[int] = []
        self.has_read = {first: threading.Event() for first in range(len(data))}

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        self.calls.append((start, stop))
        self.addresses.append(out.__array_interface__["data"][0])
        if self.fail_at is not None and start <= self.fail_at < stop:
            msg = f"pattern {self.fail_at} is damaged"
            raise OSError(msg)
        out[...] = self.data[start:stop]
        self.has_read[start].set()


@pytest.fixture
def patterns() -> np.ndarray:
    return np.arange(10 * 3 * 4, dtype=np.uint16).reshape(10, 3, 4)


@pytest.mark.parametrize("start", [0, 4, 8])
@pytest.mark.parametrize("size", [1, 4, 10, 64])
def test_chunks_come_in_order(patterns: np.ndarray, size: int, start: int) -> None:
    reader, plan = Recording(patterns), ChunkPlan(len(patterns), size)
    seen = []
    for first, last, block in read_chunks(reader, plan, start=start):
        np.testing.assert_array_equal(block, patterns[first:last])
        assert block.dtype == patterns.dtype
        seen.append((first, last))
    assert seen == reader.calls == list(plan.ranges(start))


def test_nothing_is_read_where_nothing_is_left(patterns: np.ndarray) -> None:
    reader = Recording(patterns)
    assert list(read_chunks(reader, ChunkPlan(10, 4), start=10)) == []
    assert reader.calls == []


def test_two_buffers_are_used_in_turn(patterns: np.ndarray) -> None:
    reader = Recording(patterns)
    for _ in read_chunks(reader, ChunkPlan(10, 2)):
        pass
    assert len(set(reader.addresses)) == 2
    assert reader.addresses[0::2] == [reader.addresses[0]] * 3
    assert reader.addresses[1::2] == [reader.addresses[1]] * 2


def test_a_chunk_stays_while_the_next_one_is_read(patterns: np.ndarray) -> None:
    reader = Recording(patterns)
    for first, last, block in read_chunks(reader, ChunkPlan(10, 3)):
        if last < 10:
            assert reader.has_read[last].wait(TIMEOUT), "the next chunk was not read ahead"
        np.testing.assert_array_equal(block, patterns[first:last])


@pytest.mark.parametrize("fail_at", [0, 5, 9])
def test_the_error_of_a_reader_surfaces_after_the_chunks_before_it(patterns: np.ndarray, fail_at: int) -> None:
    seen = []
    with pytest.raises(OSError, match=f"pattern {fail_at} is damaged"):
        seen.extend((first, last) for first, last, _ in read_chunks(Recording(patterns, fail_at), ChunkPlan(10, 2)))
    assert seen == [(i, i + 2) for i in range(0, fail_at - fail_at % 2, 2)]


def test_leaving_early_ends_the_reading_thread(patterns: np.ndarray) -> None:
    reader = Recording(patterns)
    chunks = read_chunks(reader, ChunkPlan(10, 2))
    next(chunks)
    chunks.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("stackalign-read")]
    assert len(reader.calls) <= 2


@pytest.mark.parametrize("start", [0, 4])
def test_progress_counts_what_the_caller_has_finished(patterns: np.ndarray, start: int) -> None:
    told: list[Progress] = []
    worked: list[int] = []
    chunks = read_chunks(Recording(patterns), ChunkPlan(10, 4), start=start, stage="test", progress=told.append)
    for _, last, _ in chunks:
        assert len(told) == len(worked), "a chunk counts as done only after the caller's work on it"
        worked.append(last - start)
    assert [p.done for p in told] == worked
    assert [p.bytes_done for p in told] == [n * 3 * 4 * 2 for n in worked]
    assert {(p.stage, p.total) for p in told} == {("test", 10 - start)}
    assert told[-1].done == told[-1].total
    seconds = [p.seconds for p in told]
    assert seconds == sorted(seconds)


def test_rate_and_remaining_time() -> None:
    progress = Progress("crop", done=25, total=100, bytes_done=0, seconds=5.0)
    assert progress.rate == 5.0
    assert progress.remaining == 15.0
    begun = Progress("crop", done=0, total=100, bytes_done=0, seconds=0.0)
    assert begun.rate == 0.0
    assert begun.remaining == float("inf")


def test_a_stop_that_was_not_asked_for() -> None:
    stop = StopRequest()
    assert not stop
    stop.check("not raised")
    stop.request()
    assert stop
    with pytest.raises(Interrupted, match="stopped after 12 patterns"):
        stop.check("stopped after 12 patterns")


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), StopRequest():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_leaves_the_signals_alone() -> None:
    found = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with StopRequest() as stop:
            found.append(signal.getsignal(signal.SIGINT) == before)
            stop.request()
            found.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(TIMEOUT)
    assert found == [True, True]


def child(code: str) -> subprocess.CompletedProcess[str]:
    # A shell starts background jobs with SIGINT ignored.
    header = """
        import signal
        from stackalign.runs import StopRequest
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    """
    text = textwrap.dedent(header) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_signal_asks(name: str) -> None:
    done = child(f"""
        with StopRequest() as stop:
            assert not stop
            signal.raise_signal(signal.{name})
            print("went on, stop is", bool(stop))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on, stop is True\n", "")


def test_the_second_interrupt_acts() -> None:
    done = child("""
        try:
            with StopRequest() as stop:
                signal.raise_signal(signal.SIGINT)
                print("first", bool(stop))
                signal.raise_signal(signal.SIGINT)
                print("not reached")
        except KeyboardInterrupt:
            print("second")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "first True\nsecond\n", "")


def test_the_second_termination_ends_the_process() -> None:
    done = child("""
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            print("first", bool(stop), flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("not reached")
    """)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "first True\n")


def needs_at_most(n: int, calls: list[tuple[int, int]]):
    """A task that has memory for n items."""

    def task(start: int, stop: int) -> list[int]:
        calls.append((start, stop))
        if stop - start > n:
            raise MemoryError(f"{stop - start} items")
        return list(range(start, stop))

    return task


@pytest.mark.parametrize("most", [1, 2, 3, 5, 13, 100])
def test_halves_are_done_in_order(most: int) -> None:
    calls: list[tuple[int, int]] = []
    told: list[tuple[int, str]] = []
    results = map_halving(needs_at_most(most, calls), 7, 20, lambda n, error: told.append((n, str(error))))
    assert [i for part in results for i in part] == list(range(7, 20))
    assert all(len(part) <= most for part in results)
    assert len(told) == len(calls) - len(results), "every split is told"
    if most >= 13:
        assert len(results) == 1
    else:
        assert told[0] == (6, "13 items")


def test_a_single_item_that_does_not_fit() -> None:
    calls: list[tuple[int, int]] = []
    with pytest.raises(MemoryError, match="1 items"):
        map_halving(needs_at_most(0, calls), 0, 4, lambda n, error: None)
    assert calls == [(0, 4), (0, 2), (0, 1)]


def test_other_errors_are_not_halved() -> None:
    calls = []

    def task(start: int, stop: int) -> None:
        calls.append((start, stop))
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        map_halving(task, 0, 4, lambda n, error: None)
    assert calls == [(0, 4)]
