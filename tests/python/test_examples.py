"""Every program of examples/python: short, in the table of docs/python.md, and it prints what it should."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server import run_program

import infobatch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "python").glob("*.py"))


def numbers(pattern: str, output: str) -> list[float]:
    """What a pattern with one group finds, as numbers."""
    return [float(found) for found in re.findall(pattern, output)]


def three_lines(output: str) -> None:
    samples = numbers(r"(\d+) samples\n", output)
    assert samples[0] == samples[8] == samples[9] == 5000
    assert all(count < 3800 for count in samples[1:8])
    batches = numbers(r"epoch \d: (\d+) batches", output)
    assert batches == [-(-count // 100) for count in samples]
    assert numbers(r"accuracy (\S+)", output)[0] > 0.9
    assert numbers(r"with (\S+)% of the samples saved", output)[0] > 15


def ids_and_reordering(output: str) -> None:
    assert re.search(r"^without ids: .*a batch was lost.*Indexed\(dataset\)", output, re.MULTILINE)
    assert "750 samples scored, 0 of them wrong" in output
    assert 500 < numbers(r"next epoch: (\d+) of", output)[0] < 900


def resume(output: str) -> None:
    assert numbers(r"goes on in epoch (\d)", output)[0] > 0
    assert re.search(r"^\d+ steps, ids and parameters equal to the bit$", output, re.MULTILINE)


def learning_rate(output: str) -> None:
    steps = numbers(r": (\d+) steps of at most 400", output)
    assert len(steps) == 2
    assert max(steps) < 350
    cosine, cycle = (
        [float(rate) for rate in line.split()] for line in re.findall(r"rate ([\d. ]+),", output)
    )
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 0.1
    assert cycle[0] == 0.004  # OneCycleLR begins at a 25th of the rate
    assert max(cycle) > 0.09
    assert max(numbers(r"at the end (\S+)", output)) < 1e-4


def gradient_accumulation(output: str) -> None:
    whole, parts = numbers(r"(\d+) updates?\b", output)[0], numbers(r"(\d+) with micro", output)[0]
    assert parts > 3 * whole
    assert numbers(r"differ by (\S+)", output)[0] < 1e-4


def reduced_loss(output: str) -> None:
    assert re.search(r"^refused: .*reduction='none'.*scale_gradient", output, re.MULTILINE)
    assert numbers(r"(\S+)% of the samples saved", output)[0] > 10
    assert numbers(r"weighted loss by (\S+)", output)[0] < 1e-4


def token_losses(output: str) -> None:
    plain, scores = numbers(r"ratio (\S+)", output)
    assert plain < 0.4  # short sequences look learned
    assert 0.7 < scores < 1.4


def fixed_budget(output: str) -> None:
    (promised, saved) = numbers(r"(?:promised|saved) (\d\.\d{3})", output)
    assert promised == 0.25
    assert abs(saved - promised) < 0.01
    assert "refused: InfoBatch: target_saved must be at most" in output


def numpy(output: str) -> None:
    assert abs(numbers(r"slope (\S+)", output)[-1] - 3) < 0.1
    assert numbers(r"(\S+)% saved", output)[-1] > 10
    assert "scores: float32, (2000,); torch loaded: False" in output


def criterion_means(output: str) -> None:
    differences = numbers(r"criterion's mean by (\S+)", output)
    assert len(differences) == 2
    assert max(differences) < 1e-5
    assert "given: True" in output


def native_loop(output: str) -> None:
    kept = numbers(r"epoch \d: (\d+) of 4000", output)
    assert kept[0] == kept[7] == 4000
    assert all(count < 3500 for count in kept[1:7])
    assert "progress 1.0" in output


def mixup(output: str) -> None:
    assert numbers(r"accuracy (\S+)", output)[0] > 0.8
    assert numbers(r"(\S+)% of the samples saved", output)[0] > 10
    wrong, others = numbers(r"(?:labels|others) (\d\.\d+)", output)
    assert wrong > 3 * others


def jax(output: str) -> None:
    kept = numbers(r"epoch \d: (\d+) of 2048", output)
    assert all(count % 64 == 0 for count in kept)
    assert min(kept) < 1500
    found = numbers(r"(-?\d\.\d+)[,\]]", output)
    assert all(abs(a - b) < 0.3 for a, b in zip(found, [1.0, -2.0, 0.5], strict=True))
    assert "compiled 1 time" in output


def stateful_dataloader(output: str) -> None:
    assert numbers(r"goes on in epoch (\d)", output)[0] > 0
    assert re.search(r"^\d+ batches, the same as without the stop$", output, re.MULTILINE)


def ranks(output: str) -> None:
    assert numbers(r"epoch \d: (\d+) of 4001", output)[0] == 4001
    assert numbers(r"(\d+) ranks", output) == [1]
    assert numbers(r"accuracy (\S+),", output)[0] > 0.65


CHECKS: dict[str, Callable[[str], None]] = {
    "001_three_lines": three_lines,
    "002_ids_and_reordering": ids_and_reordering,
    "003_resume": resume,
    "004_learning_rate": learning_rate,
    "005_gradient_accumulation": gradient_accumulation,
    "006_reduced_loss": reduced_loss,
    "007_token_losses": token_losses,
    "008_fixed_budget": fixed_budget,
    "009_numpy": numpy,
    "011_criterion_means": criterion_means,
    "013_native_loop": native_loop,
    "014_mixup": mixup,
    "015_jax": jax,
    "016_stateful_dataloader": stateful_dataloader,
    "017_ranks": ranks,
}


def test_every_program_is_checked_and_every_check_has_its_program() -> None:
    assert [path.stem for path in EXAMPLES] == list(CHECKS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_has_at_most_60_lines_and_says_what_one_learns(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "\n\nOne learns: " in text
    number = path.stem.partition("_")[0]
    twin = [other.stem for other in (ROOT / "examples").glob(f"{number}_*.c*")]
    assert twin in ([], [path.stem], ["009_engine_without_torch"]), "a number is one idea, in every language"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_stands_in_the_table_of_the_guide(path: Path) -> None:
    guide = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert re.search(
        rf"^\| \[{path.stem}\]\(\.\./examples/python/{path.name}\) \| .+ \|$", guide, re.MULTILINE
    )


#: Whose programs use what is another's in another torch or Python: loader, compiler, stateful loader, ranks.
EVERYWHERE = ("001", "013", "016", "017")
#: Of those with torch, what runs as its user runs it: by an interpreter that has loaded nothing yet.
COMMANDS = ("001",)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=()
            if path.stem.startswith(EVERYWHERE)
            else pytest.mark.one_environment("its use of torch is that of tests that run everywhere"),
        )
        for path in EXAMPLES
    ],
)
def test_it_prints_what_it_should(path: Path, tmp_path: Path) -> None:
    wanted = set(re.findall(r"^(?:import|from) (torchdata|torch|numpy|jax)\b", path.read_text("utf-8"), re.M))
    missing = sorted(name for name in wanted if importlib.util.find_spec(name) is None)
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    if "torch" in wanted and not path.stem.startswith(COMMANDS):
        done: Any = run_program(path, folder=tmp_path)
    else:
        # The package under test, wherever it lies, in a folder that the program may write to.
        folder = str(Path(infobatch.__file__).resolve().parents[1])
        python_path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, path],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": python_path},
        )
    assert done.returncode == 0, done.stderr
    warned = set(re.findall(r"\b(\w+Warning): ", done.stderr))
    assert not warned & set(infobatch.__all__), done.stderr
    CHECKS[path.stem](done.stdout)
