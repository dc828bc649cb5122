"""Trainings with DeepSpeed, as a program: ``deepspeed_run.py <file> <options of each, a list as JSON>``.

Pickles to the file what each of them was trained on, logged, and ended with.
"""

import csv
import hashlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.lr_schedules import WarmupDecayLR
from points import BATCH, CLASSES, SAMPLES, Points
from torch import distributed, nn
from torch.nn import functional

from infobatch import FullRunScheduler, InfoBatch, progress_lr
from infobatch.deepspeed import prepare

TOP_RATE = 0.05


def network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def settings(folder: Path, **options: Any) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    return {
        "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": options.get("parts", 1),
        "zero_optimization": {"stage": options.get("stage", 0)},
        "zero_allow_untested_optimizer": True,
        "dataloader_drop_last": options.get("drop_last", False),
        "csv_monitor": {"enabled": True, "output_path": str(folder), "job_name": "shown"},
        **options.get("config", {}),
    }


def scheduler_of(options: dict[str, Any], ib: InfoBatch) -> Any:
    if options.get("schedule") == "deepspeed":
        steps = ib.max_steps(BATCH * options.get("parts", 1))
        return lambda optimizer: FullRunScheduler(
            WarmupDecayLR(optimizer, steps, 0.0, TOP_RATE, 20, "linear"), ib, steps
        )
    return lambda optimizer: progress_lr(optimizer, ib, lambda progress: 1 - progress)


def train(folder: Path, **options: Any) -> dict[str, Any]:
    """Trains, and returns what the module's doc string names."""
    folder.mkdir(exist_ok=True)
    deepspeed.init_distributed("gloo", verbose=False)
    dataset, net = Points(SAMPLES, 2), network()
    ib = InfoBatch(dataset, options["epochs"], seed=5, **options.get("infobatch", {}))
    engine, *_ = deepspeed.initialize(
        model=net,
        optimizer=torch.optim.SGD(net.parameters(), TOP_RATE, momentum=0.5),
        config=settings(folder, **options),
        lr_scheduler=scheduler_of(options, ib),
    )
    workers = options.get("workers", 0)
    loader = prepare(engine, ib, dataset, num_workers=workers, persistent_workers=workers > 0)
    if "resume" in options:
        path, state = loader.load_checkpoint(options["resume"], options.get("tag"))
        assert path is not None
        assert state["mine"] == engine.global_steps
    epochs: list[dict[str, Any]] = []
    for epoch in range(ib.epoch, options.get("until", options["epochs"])):
        ib.set_epoch(epoch)
        begin = engine.global_steps
        epochs.append({"epoch": epoch, "kept": ib.statistics.kept, "batches": len(loader), "ids": []})
        for points, classes, ids in loader:
            loss = ib.update(functional.cross_entropy(engine(points), classes, reduction="none"))
            engine.backward(loss)
            before = engine.global_steps
            engine.step()
            epochs[-1]["ids"].append(ids.tolist())
            if options.get("keep") and engine.global_steps > before:
                tag = f"step-{engine.global_steps}"
                loader.save_checkpoint(str(folder), tag, {"mine": engine.global_steps})
        epochs[-1]["steps"] = engine.global_steps - begin
    saved = ib.statistics.saved
    ib.set_epoch(options["epochs"])  # losses of the last epoch enter
    distributed.barrier()  # what was logged is written
    shown = {file.stem: list(csv.reader(file.open()))[1:] for file in Path(folder, "shown").glob("*.csv")}
    right = (net(Points(200, 3).points).argmax(1) == Points(200, 3).classes).float().mean()
    return {
        "epochs": epochs,
        "rows": {name: [float(value) for _, value in rows] for name, rows in shown.items()},
        "rate": engine.get_lr()[0],
        "accuracy": float(right),
        "saved": saved,
        "steps": engine.global_steps,
        "scores": hashlib.sha256(json.dumps(ib.scores.tolist()).encode()).hexdigest(),
        "weights": [parameter.detach().flatten().tolist() for parameter in net.parameters()],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for turn, chosen in enumerate(json.loads(sys.argv[2])):
        if "resume" in chosen:  # a training, and one of its steps
            turn_of, step = chosen["resume"]
            chosen |= {"resume": str(Path(sys.argv[1]).parent / f"run-{turn_of}"), "tag": f"step-{step}"}
        try:
            found.append(train(Path(sys.argv[1]).parent / f"run-{turn}", **chosen))
        except ValueError as error:
            found.append({"refused": str(error)})
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
    os._exit(0)
