"""A crop that was stopped goes on to the same bytes; nothing half-done has the final name."""

import os
import signal

import numpy as np
import pytest

from crop.interrupted import OUTPUTS, STACK, Stopping, config, interrupt, small_pieces, source
from crop.oracle import content, digest, disks, plain
from stackalign import runs
from stackalign.crop import crop_file, is_complete
from stackalign.errors import DataError, FinishedError, Interrupted, OutputExistsError
from stackalign.runs import StopRequest

__all__ = ["small_pieces", "source"]  # fixtures


@pytest.mark.parametrize("extension", OUTPUTS)
@pytest.mark.parametrize(("stage", "after"), [("analyse", 1), ("analyse", 4), ("crop", 1), ("crop", 2), ("crop", 5)])
def test_stopped_and_resumed(extension, stage, after, source, tmp_path):
    whole = crop_file(source, tmp_path / f"whole{extension}", config())
    output = tmp_path / f"out{extension}"
    interrupt(source, output, stage, after)
    seen = []
    resumed = crop_file(source, output, config(), resume=True, progress=seen.append)
    assert digest(output) == digest(tmp_path / f"whole{extension}")
    assert plain(resumed) == plain(whole)
    assert is_complete(output)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == [output.name, "out_results.json"]
    # What was done is not done again.
    n_chunks = {"analyse": 0, "crop": 0}
    for progress in seen:
        n_chunks[progress.stage] += 1
    left = 6 - after  # of seven chunks; the request is seen after the chunk that follows it
    assert n_chunks["analyse"] == (left if stage == "analyse" else 0)
    if stage == "crop" and extension in (".npy", ".pt"):  # the others go back to the last whole block
        assert n_chunks["crop"] == left


FORMS = {
    "background": {"background": "corner"},
    "one window": {"one_window": True},
    "type and layout": {"output_dtype": "float32", "layout": "NCHW"},
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("extension", OUTPUTS)
def test_stopped_and_resumed_with_another_form(extension, name, tmp_path):
    stack = disks(40, dtype="u2")
    stack[:, 2] = 65535
    np.save(tmp_path / "in.npy", stack)
    options = {"config": config(**FORMS[name]), "mask": "auto"}
    whole = crop_file(tmp_path / "in.npy", tmp_path / f"whole{extension}", **options)
    assert whole.analysis.notes[0].startswith("mask auto")
    interrupt(tmp_path / "in.npy", tmp_path / f"out{extension}", "crop", 3, **options)
    resumed = crop_file(tmp_path / "in.npy", tmp_path / f"out{extension}", resume=True, **options)
    assert digest(tmp_path / f"out{extension}") == digest(tmp_path / f"whole{extension}")
    assert plain(resumed) == plain(whole)


def test_stopped_again_and_again(source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    output = tmp_path / "out.npy"
    interrupt(source, output, "analyse", 1)
    interrupt(source, output, "analyse", 2, resume=True)
    interrupt(source, output, "crop", 1, resume=True, config=config(chunk_size=5))
    interrupt(source, output, "crop", 1, resume=True, config=config(chunk_size=4, workers=2))
    crop_file(source, output, config(chunk_size=9), resume=True)
    assert digest(output) == digest(tmp_path / "whole.npy")


@pytest.mark.parametrize("stage", ["analyse", "crop"])
def test_signal_stops_after_the_chunk(stage, source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    output = tmp_path / "out.npy"

    sent = []

    def progress(state):
        if state.stage == stage and not sent:
            sent.append(state.done)
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop, pytest.raises(Interrupted):
        crop_file(source, output, config(), progress=progress, stop=stop)
    assert signal.getsignal(signal.SIGTERM) is handler
    crop_file(source, output, config(), resume=True)
    assert digest(output) == digest(tmp_path / "whole.npy")


def test_plane_is_resumed(source, tmp_path):
    np.save(tmp_path / "in.npy", STACK.reshape(5, 8, *STACK.shape[1:]))
    plane = config(center_fit="plane")
    whole = crop_file(source, tmp_path / "whole.npy", plane)
    for stage in ("analyse", "refine", "crop"):
        output = tmp_path / f"{stage}.npy"
        interrupt(source, output, stage, 2, config=plane)
        assert plain(crop_file(source, output, plane, resume=True)) == plain(whole)
        assert digest(output) == digest(tmp_path / "whole.npy")


def test_reuse_is_resumed(source, tmp_path):
    crop_file(source, tmp_path / "first.npy", config())
    results = tmp_path / "first_results.json"
    whole = crop_file(source, tmp_path / "whole.npy", config(), reuse=results)
    interrupt(source, tmp_path / "out.npy", "crop", 3, reuse=results)
    resumed = crop_file(source, tmp_path / "out.npy", config(), reuse=results, resume=True)
    assert plain(resumed) == plain(whole)
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": config(margin_pixels=4)}, "margin_pixels was 3, is 4"),
        ({"config": config(target_retention=0.99)}, "target_retention was 0.98, is 0.99"),
        ({"config": config(negative="clip")}, 'negative was "keep", is "clip"'),
        ({"mask": np.ones(STACK.shape[1:], bool)}, "the mask is new"),
        ({"open_options": {"scan_shape": (5, 8)}}, "scan_shape was [40], is [5, 8]"),
        ({"centers": np.full((40, 2), 8.0)}, "stated centers was null, is"),
    ],
)
def test_changed_options_are_refused_by_name(options, message, source, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(source, output)
    with pytest.raises(DataError) as caught:
        crop_file(source, output, **{"config": config(), **options}, resume=True)
    assert message in str(caught.value)
    assert "out.npy.partial belongs to another run" in str(caught.value)
    crop_file(source, output, config(), resume=True)  # the run that was interrupted is still there


def test_changed_mask_input_compression_and_dataset_are_refused(source, tmp_path):
    mask = np.ones(STACK.shape[1:], bool)
    mask[0, 0] = False
    interrupt(source, tmp_path / "a.npy", mask=mask)
    mask[0, 1] = False
    with pytest.raises(DataError, match="the mask is another one"):
        crop_file(source, tmp_path / "a.npy", config(), mask=mask, resume=True)
    interrupt(source, tmp_path / "b.h5", compression="zstd")
    with pytest.raises(DataError, match="compression was"):
        crop_file(source, tmp_path / "b.h5", config(), resume=True)
    import h5py

    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["one"], file["two"] = STACK, STACK + 1
    interrupt(tmp_path / "two.h5", tmp_path / "c.npy", open_options={"dataset": "one"})
    with pytest.raises(DataError, match=r"options\.dataset was \"one\", is \"two\""):
        crop_file(tmp_path / "two.h5", tmp_path / "c.npy", config(), open_options={"dataset": "two"}, resume=True)
    interrupt(source, tmp_path / "d.npy")
    np.save(source, STACK + 1)
    with pytest.raises(DataError, match=r"the content of in\.npy has changed"):
        crop_file(source, tmp_path / "d.npy", config(), resume=True)


def test_resume_without_a_journal_starts_anew(source, tmp_path):
    crop_file(source, tmp_path / "whole.npy", config())
    crop_file(source, tmp_path / "out.npy", config(), resume=True)
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")
    with pytest.raises(FinishedError, match=r"out\.npy was finished by an earlier run"):
        crop_file(source, tmp_path / "out.npy", config(), resume=True)


def test_start_without_resume_forgets_what_was_done(source, tmp_path):
    interrupt(source, tmp_path / "out.npy")
    crop_file(source, tmp_path / "out.npy", config(margin_pixels=1))
    crop_file(source, tmp_path / "whole.npy", config(margin_pixels=1))
    assert digest(tmp_path / "out.npy") == digest(tmp_path / "whole.npy")


@pytest.mark.parametrize("extension", OUTPUTS)
def test_existing_output_is_replaced_only_when_told(extension, source, tmp_path):
    output = tmp_path / f"out{extension}"
    crop_file(source, output, config())
    before = digest(output)
    with pytest.raises(OutputExistsError, match=r"exists; choose another name or allow it to be replaced"):
        crop_file(source, output, config(margin_pixels=1))
    assert digest(output) == before
    crop_file(source, output, config(margin_pixels=1), overwrite=True)
    after = digest(output)
    assert after != before
    stopping = Stopping(tmp_path / "none", "crop", 2)
    with pytest.raises(Interrupted):
        crop_file(source, output, config(), overwrite=True, progress=stopping, stop=stopping.request)
    assert digest(output) == after  # the old one stays until the new one is complete
    assert not is_complete(output)
    crop_file(source, output, config(), resume=True)
    assert digest(output) == before


def test_output_that_appeared_since_is_not_replaced(source, tmp_path):
    output = tmp_path / "out.npy"
    interrupt(source, output)
    output.write_bytes(b"of somebody else")
    with pytest.raises(OutputExistsError, match="exists"):
        crop_file(source, output, config(), resume=True)
    assert output.read_bytes() == b"of somebody else"
    crop_file(source, output, config(), resume=True, overwrite=True)
    assert content(output).shape[0] == 40


@pytest.mark.parametrize("due", [True, False])
def test_results_are_the_last_thing_written(due, source, tmp_path, monkeypatch):
    monkeypatch.setattr("stackalign.runs.Run.due", lambda run: due)
    rename = runs.publication.replace_path

    def fail(path, target, **options):
        if target.suffix == ".json":
            assert output.exists()
            msg = "disk gone"
            raise DataError(msg)
        rename(path, target, **options)

    output = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        patch.setattr("stackalign.runs.publication.replace_path", fail)
        with pytest.raises(DataError, match="disk gone; what was done is kept"):
            crop_file(source, output, config())
    assert not is_complete(output)
    with pytest.raises(FinishedError):
        crop_file(source, output, config(), resume=True)
    assert is_complete(output)
