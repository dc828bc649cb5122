"""Trains the example's detector on generated pictures, and pickles what it found.

    boxes.py <folder> <whole, stopped or resumed>

The pictures have one box, a bright one or a dark one. A stopped training ends behind epoch 2, as one that was
killed.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
SIZE, EPOCHS, BATCH = 48, 6, 8


def write_pictures(folder: Path) -> Path:
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(SIZE + 8):
        part = "train" if number < SIZE else "val"
        pixels = rng.normal(128, 10 + number % 3 * 15, (64, 64, 3))
        width, height = rng.integers(16, 40, 2)
        left, top = rng.integers(0, 64 - width), rng.integers(0, 64 - height)
        pixels[top : top + height, left : left + width] += 90 if number % 2 else -90
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"images/{part}/{number:03d}.png")
        box = ((left + width / 2) / 64, (top + height / 2) / 64, width / 64, height / 64)
        row = " ".join(map(str, (number % 2, *box)))
        (folder / f"labels/{part}/{number:03d}.txt").write_text(row + "\n")
    text = f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {{0: dark, 1: bright}}\n"
    (folder / "boxes.yaml").write_text(text)
    return folder / "boxes.yaml"


class Stopped(Exception):
    """As if it had been killed."""


def train(folder: Path, data: Path, how: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "examples" / "python" / "trainers"))  # checkpoints name the model's class
    from ultralytics_detection import Trainer

    options = {
        "model": "yolov8n.yaml",
        "data": str(data),
        "epochs": EPOCHS,
        "batch": BATCH,
        "nbs": BATCH,
        "imgsz": 64,
        "device": "cpu",
        "workers": 0,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "optimizer": "SGD",
        "lr0": 0.01,
        "warmup_epochs": 1,
        "mosaic": 0.0,
        "close_mosaic": 0,
        "amp": False,
        "plots": False,
        "val": False,
        "seed": 1,
        "verbose": False,
    }
    if how == "resumed":
        options = {"resume": str(folder / "run" / "weights" / "last.pt"), "data": str(data), "device": "cpu"}
    trainer = Trainer(overrides=options)
    kept: dict[int, int] = {}
    plans: dict[int, list[int]] = {}
    steps: dict[int, int] = {}
    losses: dict[int, float] = {}

    def epoch_starts(trainer: Any) -> None:
        kept[trainer.epoch] = len(trainer.train_loader.sampler)
        plans[trainer.epoch] = list(trainer.ib.plan.ids)
        steps[trainer.epoch] = 0

    def batch_ends(trainer: Any) -> None:
        steps[trainer.epoch] += 1

    def epoch_ends(trainer: Any) -> None:
        losses[trainer.epoch] = float(sum(trainer.label_loss_items(trainer.tloss).values()))

    def saved(trainer: Any) -> None:
        if how == "stopped" and trainer.epoch == 2:
            raise Stopped

    trainer.add_callback("on_train_epoch_start", epoch_starts)
    trainer.add_callback("on_train_batch_end", batch_ends)
    trainer.add_callback("on_train_epoch_end", epoch_ends)
    trainer.add_callback("on_fit_epoch_end", saved)
    try:
        trainer.train()
    except Stopped:
        trainer.ib.set_epoch(3)
        return {"plans": {3: list(trainer.ib.plan.ids)}}
    trainer.ib.set_epoch(EPOCHS)
    return {
        "kept": kept,
        "plans": plans,
        "steps": steps,
        "losses": losses,
        "scores": trainer.ib.scores.tolist(),
        "saved": trainer.ib.statistics.saved,
        "rate": trainer.optimizer.param_groups[0]["lr"],
    }


if __name__ == "__main__":
    folder, how = Path(sys.argv[1]), sys.argv[2]
    data = folder / "boxes.yaml"
    if not data.exists():
        write_pictures(folder)
    (folder / how).write_bytes(pickle.dumps(train(folder, data, how)))
