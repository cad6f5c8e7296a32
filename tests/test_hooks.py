"""The hooks of a commit are the checks of `make lint`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_hooks_run_what_make_lint_runs() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0].splitlines()[1:]
    checks = {line.strip().replace("$(V)", ".venv") for line in recipe}
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert {re.sub(r"^bash -c '(.*)'$", r"\1", hook) for hook in hooks} == checks
