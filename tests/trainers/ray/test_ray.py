"""Ray Train on two workers: whole trainings, one that Ray starts again from a checkpoint, and the example."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed (make test-trainers ALL=1)")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SIZE, EPOCHS, BATCH = 402, 6, 20


def run(program: Path, folder: Path, *arguments: Path) -> str:
    """What a program prints; ranks find the package where this process does."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, program, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder,
        env={**os.environ, **quiet},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ray")
    run(HERE / "ray_run.py", folder, folder)
    results: dict[str, Any] = {}
    for name in ("whole", "stopped", "batches"):
        results[name] = [pickle.loads((folder / f"{name}-{rank}").read_bytes()) for rank in range(2)]
        results[f"{name} metrics"] = pickle.loads((folder / f"{name}-metrics").read_bytes())
    return results


def test_it_learns_saves_and_ends_where_it_should(found: dict[str, Any]) -> None:
    for worker in found["whole"]:
        assert worker["accuracy"] > 0.85
        assert 0.1 < worker["saved"] < 0.5
        assert worker["rate"] == pytest.approx([0.0], abs=1e-9)
        assert worker["begun_in"] == -1


def test_an_epoch_has_the_batches_of_its_plan_on_each_worker(found: dict[str, Any]) -> None:
    for worker in found["whole"]:
        assert sorted(worker["lengths"]) == list(range(EPOCHS))
        for length, steps, kept in worker["lengths"].values():
            share = -(-kept // 2)
            assert length == steps == -(-share // BATCH)
        kept = [kept for _, _, kept in worker["lengths"].values()]
        assert kept[0] == kept[-1] == SIZE
        assert max(kept[1:-1]) < SIZE
    assert found["whole"][0]["lengths"] == found["whole"][1]["lengths"]


def test_scores_and_models_are_equal_on_both_workers(found: dict[str, Any]) -> None:
    one, other = found["whole"]
    assert one["scores"] == other["scores"]
    assert len(set(one["scores"])) > SIZE // 2
    assert one["model"] == other["model"]


def test_a_training_that_ray_started_again_is_one_that_was_never_stopped(found: dict[str, Any]) -> None:
    for whole, stopped in zip(found["whole"], found["stopped"], strict=True):
        assert stopped["begun_in"] == 3
        assert sorted(stopped["lengths"]) == [3, 4, 5]
        assert stopped["lengths"][3][1] == whole["lengths"][3][1] - 4  # the rest of the epoch
        for name in ("scores", "model", "rate", "saved", "accuracy"):
            assert stopped[name] == whole[name]


def test_ray_shows_the_figures_that_were_reported(found: dict[str, Any]) -> None:
    for name in ("whole", "stopped"):
        metrics = found[f"{name} metrics"]
        assert metrics["kept"] == SIZE
        assert metrics["saved"] == found["whole"][0]["saved"]
        assert metrics["accuracy"] > 0.85


def test_a_batch_sampler_that_ray_leaves_alone_gives_the_same_training(found: dict[str, Any]) -> None:
    for whole, batches in zip(found["whole"], found["batches"], strict=True):
        for name in ("lengths", "scores", "model", "rate", "saved"):
            assert batches[name] == whole[name]


def test_the_example_learns_and_saves(tmp_path: Path) -> None:
    output = run(ROOT / "examples" / "python" / "trainers" / "ray_train.py", tmp_path)
    (last,) = re.findall(r"^\{'kept': (\d+), 'saved': (\S+), 'accuracy': (\S+), 'lr': (\S+)\}$", output, re.M)
    kept, saved, accuracy, rate = map(float, last)
    assert kept == 2000
    assert 0.1 < saved < 0.5
    assert accuracy > 0.85
    assert rate == 0
