"""Trainings in Composer, also as a program: ``composer_run.py <file> <options of each, a list as JSON>``.

Pickles to the file what each of them was trained on, logged, and ended with.
"""

import hashlib
import json
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from composer import Callback, ComposerModel, Trainer
from composer.core import State
from composer.loggers import InMemoryLogger, Logger, ProgressBarLogger
from composer.optim import CosineAnnealingScheduler, LinearScheduler
from composer.utils import dist
from points import BATCH, CLASSES, SAMPLES, Points
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from infobatch import FullRunScheduler, InfoBatch, progress_lr
from infobatch.composer import FullRun, InfoBatchAlgorithm

TOP_RATE = 0.05


class Model(ComposerModel):
    """A small network, with dropout: its random numbers must go on as well."""

    def __init__(self, ib: InfoBatch, by_ids: bool, dropout: float) -> None:
        super().__init__()
        self.ib, self.by_ids = ib, by_ids
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, CLASSES))
        self.right = MulticlassAccuracy(CLASSES, average="micro")

    def forward(self, batch: Any) -> torch.Tensor:
        return self.net(batch[0])

    def loss(self, outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        losses = functional.cross_entropy(outputs, batch[1], reduction="none")
        return self.ib.update(losses, batch[2] if self.by_ids else None)

    def get_metrics(self, is_train: bool) -> dict[str, Any]:
        return {} if is_train else {"accuracy": self.right}

    def update_metric(self, batch: Any, outputs: torch.Tensor, metric: Any) -> None:
        metric.update(outputs, batch[1])


class Watch(Callback):
    """What happens, as the Trainer tells it."""

    def __init__(self, ib: InfoBatch, options: dict[str, Any]) -> None:
        self.ib, self.options = ib, options
        self.epochs: list[dict[str, Any]] = []
        self.rates: list[float] = []
        self.validations = 0

    def _append(self, state: State) -> None:
        epoch = int(state.timestamp.epoch)
        self.epochs.append({"epoch": epoch, "kept": len(self.ib.plan.ids), "ids": []})
        self.epochs[-1]["batches"] = int(state.dataloader_len)

    def epoch_start(self, state: State, logger: Logger) -> None:
        self._append(state)

    def batch_start(self, state: State, logger: Logger) -> None:
        if not self.epochs:  # resumed in the midst of an epoch
            self._append(state)
        self.epochs[-1]["ids"].append(state.batch[2].tolist())
        self.rates.append(state.optimizers[0].param_groups[0]["lr"])

    def epoch_end(self, state: State, logger: Logger) -> None:
        if not self.epochs:  # resumed behind its last batch
            self.epochs.append({"epoch": int(state.timestamp.epoch) - 1, "ids": []})
        for shown in logger.destinations:
            if isinstance(shown, ProgressBarLogger) and shown.train_pbar is not None:
                self.epochs[-1]["bar"] = [shown.train_pbar.pbar.n, shown.train_pbar.pbar.total]

    def eval_end(self, state: State, logger: Logger) -> None:
        self.validations += 1


def schedule_of(options: dict[str, Any], optimizer: Any, ib: InfoBatch) -> Any:
    if options.get("schedule") == "steps":
        steps = ib.max_steps(BATCH)
        cycle = OneCycleLR(optimizer, TOP_RATE, total_steps=steps, cycle_momentum=False)
        return FullRunScheduler(cycle, ib, steps)
    if options.get("schedule") == "composer":
        return FullRun(CosineAnnealingScheduler(alpha_f=0.25), ib)
    if options.get("schedule") == "scaled":
        return FullRun(LinearScheduler(alpha_f=0.25, t_max=f"{2 * options['epochs']}ep"), ib)
    if options.get("schedule") == "noted":
        return FullRun(options["note"], ib)
    if options.get("schedule") == "stock":
        return CosineAnnealingScheduler(alpha_f=0.25)
    return progress_lr(optimizer, ib, lambda progress: 1 - progress)


def train(folder: Path, **options: Any) -> dict[str, Any]:
    """Trains, and returns what the module's doc string names."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    warnings.filterwarnings("ignore", ".*", UserWarning, "composer|torchmetrics")
    dist.initialize_dist("cpu")
    dataset = Points(SAMPLES, 2)
    ib = InfoBatch(dataset, options["epochs"], seed=5, **options.get("infobatch", {}))
    workers = options.get("workers", 0)
    how = {"num_workers": workers, "persistent_workers": workers > 0}
    if options.get("batches"):
        loader = DataLoader(dataset, batch_sampler=ib.batch_sampler(BATCH), **how)
    else:
        loader = DataLoader(
            dataset, BATCH, sampler=ib.sampler, drop_last=options.get("drop_last", False), **how
        )
    validated = Points(200, 3)
    share = dist.get_sampler(validated) if dist.get_world_size() > 1 else None
    model, watch, logger = (
        Model(ib, options.get("by_ids", False), options.get("dropout", 0.1)),
        Watch(ib, options),
        InMemoryLogger(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=TOP_RATE)
    shown = Path(folder, "shown").open("w")  # noqa: SIM115 - the Trainer has it as long as it lives
    trainer = Trainer(
        model=model, train_dataloader=loader, eval_dataloader=DataLoader(validated, 50, sampler=share),
        max_duration=options.get("duration", f"{options['epochs']}ep"), optimizers=optimizer,
        algorithms=[InfoBatchAlgorithm(ib)], callbacks=[watch, *options.get("callbacks", [])],
        loggers=[logger], schedulers=schedule_of(options, optimizer, ib), step_schedulers_every_batch=True,
        device="cpu", seed=11, save_folder=str(folder) if options.get("keep") else None,
        save_interval=options.get("keep", "1ep"), save_filename="{epoch}-{batch}.pt",
        save_latest_filename=None, save_overwrite=True, load_path=options.get("resume"),
        progress_bar=options.get("bar", False), console_stream=shown,
        **options.get("trainer", {}),
    )  # fmt: skip
    for part in options.get("parts", [None]):
        trainer.fit(duration=part)
    trainer.close()
    saved = ib.statistics.saved
    ib.set_epoch(ib.num_epochs)  # losses of the last epoch enter
    accuracy = trainer.state.eval_metrics["eval"]["accuracy"].compute()
    return {
        "epochs": watch.epochs,
        "validations": watch.validations,
        "rows": {
            name: [value for _, value in rows]
            for name, rows in logger.data.items()
            if name.startswith(("infobatch/", "lr-", "metrics/eval"))
        },
        "rates": watch.rates,
        "rate": optimizer.param_groups[0]["lr"],
        "accuracy": float(accuracy),
        "saved": saved,
        "batch": int(trainer.state.timestamp.batch),
        "scores": hashlib.sha256(json.dumps(ib.scores.tolist()).encode()).hexdigest(),
        "weights": [parameter.detach().flatten().tolist() for parameter in model.parameters()],
        "rank": dist.get_global_rank(),
    }


def number_of(result: dict[str, Any], epoch: int, batch: int) -> int:
    """Batches of a training up to one of an epoch's; -1 is its last."""
    before = sum(len(found["ids"]) for found in result["epochs"][:epoch])
    return before + (batch if batch > 0 else 1 + batch + len(result["epochs"][epoch]["ids"]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for turn, chosen in enumerate(json.loads(sys.argv[2])):
        if "behind" in chosen:  # a checkpoint of the first of them
            behind = number_of(found[0], *chosen["behind"])
            (path,) = Path(sys.argv[1]).parent.glob(f"run-0/*-{behind}.pt")
            chosen["resume"] = str(path)
        try:
            found.append(train(Path(sys.argv[1]).parent / f"run-{turn}", **chosen))
        except ValueError as error:
            found.append({"refused": str(error)})
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
    os._exit(0)
