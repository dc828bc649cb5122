"""The examples of examples/python/trainers, and what those of Lightning print."""

import re
from pathlib import Path

import pytest
from processes import EXAMPLES as FOLDER
from processes import ROOT, example

EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_has_at_most_60_lines_and_says_what_one_learns(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "\n\nOne learns: " in text
    assert f"(../examples/python/trainers/{path.name})" in (ROOT / "docs" / "trainers.md").read_text("utf-8")


OF_LIGHTNING = [path for path in EXAMPLES if "from lightning" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", OF_LIGHTNING, ids=lambda path: path.stem)
def test_it_learns_saves_and_ends_with_all_samples(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed (make test-trainers)")
    output = example(path.name, tmp_path, "lightning")
    for kept, size in re.findall(r"epoch 7: (\d+) of (\d+) samples kept", output)[-1:]:
        assert kept == size  # the last epochs see everything
    assert 10 < float(re.findall(r"(\S+)% (?:of the samples )?saved", output)[-1]) < 50
    assert float(re.findall(r"accuracy (\d\.\d+)", output)[-1]) > 0.65
