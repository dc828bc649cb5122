"""Trainings in MMEngine's Runner, as a program: ``mmengine_run.py <file> <options of each, a list as JSON>``.

Pickles to the file what each of them was trained on, logged, and ended with.
"""

import hashlib
import itertools
import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from points import BATCH, CLASSES, SAMPLES, Points
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import BatchSampler

import infobatch.mmengine  # noqa: F401 - registers sampler and hook

TOP_RATE = 0.05
#: MMEngine takes runs of one name that begin in the same second for one, with one log.
MADE = itertools.count()
DATASETS.register_module(module=Points)


@DATA_SAMPLERS.register_module()
class ByHalves(BatchSampler):
    """Batches of its own making, as those of detectors are that put wide pictures together."""


@MODELS.register_module()
class Classifier(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, CLASSES))
        self.seen: list[list[int]] = []

    def forward(self, points: Any, classes: Any, ids: Any, mode: str) -> Any:
        outputs = self.net(points)
        if mode == "predict":
            return list(zip(outputs.argmax(1), classes, strict=True))
        self.seen.append(ids.tolist())
        return {"loss": self.infobatch.update(functional.cross_entropy(outputs, classes, reduction="none"))}


@METRICS.register_module()
class Right(BaseMetric):
    def process(self, batch: Any, outputs: Any) -> None:
        self.results += [bool(found == due) for found, due in outputs]

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        return {"accuracy": sum(results) / len(results)}


@HOOKS.register_module()
class Watch(Hook):
    """What happens, as the Runner tells it."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.rates: list[float] = []
        self.validations: list[float] = []
        self.steps = 0

    def before_train(self, runner: Runner) -> None:
        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_post_hook(lambda *_: setattr(self, "steps", self.steps + 1))

    def before_train_epoch(self, runner: Runner) -> None:
        self.model = runner.model.module if hasattr(runner.model, "module") else runner.model
        self.model.seen = []
        self.steps = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 0:
            self.batches = len(runner.train_dataloader)
        assert self.batches == len(runner.train_dataloader)
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    def after_train_epoch(self, runner: Runner) -> None:
        found = {"epoch": runner.epoch, "kept": self.model.infobatch.statistics.kept, "ids": self.model.seen}
        self.epochs.append({**found, "batches": len(runner.train_dataloader), "steps": self.steps})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.validations.append(metrics["accuracy"])


SCHEDULES = {
    "linear": {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "by_epoch": False},
    "converted": {"type": "CosineAnnealingLR", "eta_min_ratio": 0.25, "convert_to_iter_based": True},
    "epochs": {"type": "MultiStepLR", "milestones": [2, 4], "by_epoch": True},
}


def settings(folder: Path, **options: Any) -> dict[str, Any]:
    """A config of the Runner."""
    epochs, workers = options["epochs"], options.get("workers", 0)
    loader = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    loader |= {"collate_fn": {"type": "default_collate"}}
    sampler = {"type": "InfoBatchSampler", "num_epochs": epochs, "seed": 5, **options.get("infobatch", {})}
    save = {"type": "CheckpointHook", "interval": 1, **options.get("keep", {})}
    return {
        "model": {"type": "Classifier"},
        "work_dir": str(folder),
        "train_dataloader": {
            "dataset": {"type": "Points", "count": SAMPLES, "seed": 2},
            "sampler": sampler,
            "drop_last": options.get("drop_last", False),
            **loader,
        },
        "val_dataloader": {
            "dataset": {"type": "Points", "count": 200, "seed": 3},
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            **loader,
        },
        "train_cfg": {"by_epoch": True, "max_epochs": epochs},
        "val_cfg": {},
        "val_evaluator": {"type": "Right"},
        "optim_wrapper": {
            "optimizer": {"type": "SGD", "lr": TOP_RATE, "momentum": 0.5},
            "accumulative_counts": options.get("parts", 1),
        },
        "param_scheduler": SCHEDULES[options.get("schedule", "linear")],
        "default_hooks": {
            "checkpoint": save,
            "logger": {"type": "LoggerHook", "interval": 10},
            **options.get("hooks", {}),
        },
        "custom_hooks": [{"type": "InfoBatchHook"}, {"type": "Watch"}],
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
        "randomness": {"seed": 3},
        "log_level": "INFO",
        "experiment_name": f"{folder.name}_{next(MADE)}",
        "default_scope": "mmengine",
        **options.get("config", {}),
    }


def train(folder: Path, **options: Any) -> dict[str, Any]:
    """Trains, and returns what the module's doc string names."""
    folder.mkdir(exist_ok=True)
    config = settings(folder, **options)
    launcher = "none"
    if "WORLD_SIZE" in os.environ:
        # On a CPU: MMEngine by itself would want a GPU for each process.
        launcher = "pytorch"
        wrapper = {"type": "MMDistributedDataParallel", "device_ids": None}
        config["cfg"] = {"model_wrapper_cfg": wrapper}
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
    resume = options.get("resume")
    runner = Runner(**config, launcher=launcher, resume=resume is not None, load_from=resume)
    runner.train()
    (watch,) = (hook for hook in runner.hooks if isinstance(hook, Watch))
    model = watch.model
    ib, saved = model.infobatch, model.infobatch.statistics.saved
    ib.set_epoch(ib.num_epochs)  # losses of the last epoch enter
    logged = Path(runner.log_dir, "vis_data", "scalars.json")
    rows = [json.loads(line) for line in logged.read_text().splitlines()] if logged.exists() else []
    lines = Path(runner.log_dir, f"{runner.timestamp}.log")
    return {
        "epochs": watch.epochs,
        "rates": watch.rates,
        "validations": watch.validations,
        "rows": rows,
        "shown": re.findall(r"Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\]", lines.read_text()),
        "rate": runner.optim_wrapper.get_lr()["lr"][0],
        "saved": saved,
        "iter": runner.iter,
        "scores": hashlib.sha256(json.dumps(ib.scores.tolist()).encode()).hexdigest(),
        "weights": [parameter.detach().flatten().tolist() for parameter in model.parameters()],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for turn, chosen in enumerate(json.loads(sys.argv[2])):
        if "resume" in chosen:  # a training, and one of its files
            turn_of, name = chosen["resume"]
            chosen["resume"] = str(Path(sys.argv[1]).parent / f"run-{turn_of}" / name)
        found.append(train(Path(sys.argv[1]).parent / f"run-{turn}", **chosen))
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
    os._exit(0)
