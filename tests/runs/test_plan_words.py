"""What differs between two plans, in words."""

import pytest

from stackalign.runs import Plan

INPUT = {"name": "a.npy", "fingerprint": "1"}


def plan(command="center", inputs=(INPUT,), mask=None, version="1") -> Plan:
    return Plan(command, list(inputs), {"width": 3}, {"mask": mask}, version=version)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (plan(), []),
        (plan("peaks"), ["it was written by center, not by peaks"]),
        (plan(inputs=(INPUT, INPUT)), ["the number of inputs was 1, is 2"]),
        (plan(mask="x"), ["the mask is new"]),
        (plan(version="2"), ["the version of stackalign was 1, is 2"]),
    ],
)
def test_differences(other: Plan, words: list[str]) -> None:
    assert other.differences(plan().to_dict()) == words


def test_a_mask_that_is_gone_or_another_one() -> None:
    masked = plan(mask="x").to_dict()
    assert plan().differences(masked) == ["the mask is gone"]
    assert plan(mask="y").differences(masked) == ["the mask is another one"]
