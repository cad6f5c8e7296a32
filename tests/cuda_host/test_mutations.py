"""The tests of the tests: a deliberate mistake in a kernel does not go unnoticed."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cuda_host import sanitized
from cuda_host._require import require_gpp
from cuda_host.mutants import ALL_SPARE, BARRIER, NO_MUTATION, RULES, SHARING, asked_of, mutants
from stackalign_kernels import cuda_names, cuda_source

# Barriers that another one makes superfluous in every present use, by what follows them. They stay because the function
# they end promises its callers that its shared memory may be used again.
SPARE = {"__syncthreads(); return largest;", "__syncthreads(); return m;", "__syncthreads(); }"}
# The reference takes microseconds per pixel, so few dtypes: one of integers, one that knows NaN and negative numbers.
DTYPES = ("uint16", "float32")


def _verdicts(sanitizer: str, names: Sequence[str], dtypes: Sequence[str]) -> dict[tuple[str, str, str], set[str]]:
    """Run the drivers, two at a time, and gather the verdicts on each mutant over the kernel files that hold it."""
    for name in names:  # the reference is asked here: Python is slow under a sanitizer
        asked_of(sanitizer, name, dtypes)
    runs = [(sanitizer, ",".join(half), *dtypes) for half in (names[::2], names[1::2])]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda run: sanitized.run(run[0], "cuda_host.mutants", *run[1:]), runs))
    gathered = defaultdict(set)
    for run, outcome in zip(runs, outcomes, strict=True):
        assert outcome.status == 0, f"{run}\n{outcome.text}"
        for line in outcome.text.splitlines():
            rule, place, text, verdict = json.loads(line)
            gathered[rule, place, text].add(verdict)
    assert gathered.pop((NO_MUTATION, "", "")) == {"survived"}, "the kernels are wrong without a mutation"
    return dict(gathered)


def test_every_rule_finds_something():
    for rule in RULES:
        for name in rule.files:
            assert name in cuda_names()
            assert any(m.rule == rule.name for m in mutants(name)), f"{rule.name}: nothing to change in {name}.cu"


def test_every_barrier_is_mutated():
    (rule,) = (r for r in RULES if r.name == BARRIER)
    for name in cuda_names():
        barriers = len(re.findall(r"__sync(?:threads|warp)\b", re.sub("//.*", "", cuda_source(name))))
        if name in rule.files:
            assert sum(m.rule == BARRIER for m in mutants(name)) == barriers > 0
        else:  # those of the headers are mutated in the other files
            assert "__sync" not in cuda_source(name).rpartition("// SPDX")[2]


@pytest.mark.slow
def test_results_show_every_mutation():
    require_gpp()
    verdicts = _verdicts("plain", cuda_names(), DTYPES)
    survivors = [mutant for mutant, seen in verdicts.items() if seen == {"survived"}]
    assert not survivors
    assert {rule for rule, _, _ in verdicts} == {rule.name for rule in RULES} - {BARRIER}


@pytest.mark.slow
def test_the_thread_sanitizer_shows_every_missing_barrier():
    require_gpp("thread")
    # float32 alone takes every path with a barrier: growing and not growing sums, and the radius of the support.
    verdicts = _verdicts("thread", SHARING, ["float32"])
    assert "data race" in verdicts.pop((ALL_SPARE, "", ""))
    unseen = {text for (_, _, text), seen in verdicts.items() if "data race" not in seen}
    assert unseen <= SPARE
    assert {text for _, _, text in verdicts} >= SPARE, "a barrier called spare is gone"
    assert len(verdicts) > 2 * len(SPARE)
