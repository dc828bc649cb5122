"""The example's detector inside Ultralytics' trainer, on a few generated pictures."""

from __future__ import annotations

import csv
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ultralytics", reason="Ultralytics is not installed (make test-trainers ALL=1)")

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SIZE, EPOCHS, BATCH = 48, 6, 8


def run(folder: Path, how: str) -> dict[str, Any]:
    settings = {"YOLO_OFFLINE": "True", "YOLO_CONFIG_DIR": str(folder / "config")}
    done = subprocess.run(
        [sys.executable, "-W", "error::infobatch.InfoBatchWarning", HERE / "boxes.py", folder, how],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = pickle.loads((folder / how).read_bytes())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    return run(folder, "whole")


def test_the_loss_goes_down_and_images_are_left_out(whole: dict[str, Any]) -> None:
    assert max(whole["losses"][epoch] for epoch in (4, 5)) < 0.8 * whole["losses"][0]
    assert 0.1 < whole["saved"] < 0.5
    assert len({round(score, 6) for score in whole["scores"]}) == SIZE  # a loss of its own for each image
    assert all(score > 0 for score in whole["scores"])


def test_an_epoch_has_the_batches_of_its_plan(whole: dict[str, Any], folder: Path) -> None:
    kept = whole["kept"]
    assert sorted(kept) == list(range(EPOCHS))
    assert kept[0] == kept[5] == SIZE
    assert max(kept[epoch] for epoch in range(1, 5)) < SIZE
    assert whole["steps"] == {epoch: -(-count // BATCH) for epoch, count in kept.items()}
    assert {epoch: len(plan) for epoch, plan in whole["plans"].items()} == kept
    with open(folder / "run" / "results.csv", encoding="utf-8") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, EPOCHS + 1))


def test_the_learning_rate_ends_where_that_of_ultralytics_does(whole: dict[str, Any]) -> None:
    last = 0.01 * ((1 - 5 / EPOCHS) * (1 - 0.01) + 0.01)  # of its linear schedule, by epochs
    assert whole["rate"] == pytest.approx(last)


def test_a_training_that_was_stopped_goes_on_with_the_plan_that_it_would_have_had(tmp_path: Path) -> None:
    """Ultralytics keeps weights in half precision, so what follows is not equal to the bit."""
    stopped = run(tmp_path, "stopped")
    resumed = run(tmp_path, "resumed")
    assert sorted(resumed["plans"]) == [3, 4, 5]
    assert resumed["plans"][3] == stopped["plans"][3]
    assert len(resumed["plans"][3]) < SIZE
    assert resumed["steps"] == {epoch: -(-count // BATCH) for epoch, count in resumed["kept"].items()}


class Weights:
    """In place of a run: what it is asked, and what it answers."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = torch.tensor(weights)
        self.scores = torch.empty(0)

    def observe(self, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        self.scores = scores
        return self.weights


def test_gradients_are_those_of_each_image_weighed_and_the_loss_is_ultralytics_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "python" / "trainers")
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics_detection import Model

    torch.manual_seed(1)
    model = Model("yolov8n.yaml", nc=2, ch=3, verbose=False)
    model.args = get_cfg()
    model.train()
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.6], [0.3, 0.4, 0.3, 0.3], [0.6, 0.5, 0.4, 0.4]])
    batch: dict[str, Any] = {
        "img": torch.rand(2, 3, 64, 64),
        "cls": torch.tensor([[0.0], [1.0], [1.0]]),
        "bboxes": boxes,
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        "id": [4, 7],
    }

    def gradient(weights: list[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        monkeypatch.setattr(Model, "ib", None if weights is None else Weights(weights))
        loss, _ = DetectionModel.loss(model, batch) if weights is None else model.loss(batch)
        loss.sum().backward()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss.detach().sum(), torch.cat(grads)

    stock_loss, stock = gradient(None)
    loss, ones = gradient([1.0, 1.0])
    assert torch.allclose(loss, stock_loss)
    assert torch.allclose(ones, stock, rtol=1e-4, atol=1e-5)
    _, first = gradient([1.0, 0.0])
    _, second = gradient([0.0, 1.0])
    loss, weighed = gradient([2.0, 0.5])
    assert torch.allclose(loss, stock_loss)
    assert torch.allclose(weighed, 2 * first + 0.5 * second, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(first, second, rtol=0.1)
    scores = Model.ib.scores
    assert scores.shape == (2,)
    assert not scores.requires_grad
    alone = {**batch, "img": batch["img"][:1]}
    for name in ("cls", "bboxes", "batch_idx"):
        alone[name] = batch[name][:1]
    with torch.no_grad():
        preds = model.forward(batch["img"])
        one = {name: preds[name][:1] for name in ("boxes", "scores")}
        expected = model.criterion({**one, "feats": [layer[:1] for layer in preds["feats"]]}, alone)[0].sum()
    assert scores[0].item() == pytest.approx(expected.item(), rel=1e-4)
