"""Trainings in Lightning, as a program: ``lightning_run.py <folder> <options of each, a list as JSON>``.

Writes ``<folder>/rank-<r>.json``: what each of them was trained on, logged, and ended with, or the text of
its TypeError. Started once; for several devices Lightning starts the other processes itself.
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import Logger
from points import BATCH, CLASSES, SAMPLES, Points
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from infobatch import FullRunScheduler, InfoBatch, progress_lr
from infobatch.lightning import InfoBatchCallback

TOP_RATE = 0.05


class Data(LightningDataModule):
    """The InfoBatch is made in `setup`: there the ranks know each other."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options
        self.ib: InfoBatch | None = None

    def setup(self, stage: str) -> None:
        if self.ib is None:
            self.ib = InfoBatch(
                Points(SAMPLES, 2), self.options["epochs"], seed=5, **self.options.get("infobatch", {})
            )

    def train_dataloader(self) -> DataLoader:
        workers = {
            "num_workers": self.options.get("workers", 0),
            "persistent_workers": self.options.get("workers", 0) > 0,
        }
        if self.options.get("batches"):
            return DataLoader(self.ib, batch_sampler=self.ib.batch_sampler(BATCH), **workers)
        return DataLoader(self.ib, batch_size=BATCH, sampler=self.ib.sampler, **workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Points(200, 3), batch_size=50)


class Model(LightningModule):
    def __init__(self, data: Data, options: dict[str, Any]) -> None:
        super().__init__()
        self.data, self.options = data, options
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        points, classes, _ = batch
        return self.data.ib.update(functional.cross_entropy(self.net(points), classes, reduction="none"))

    def validation_step(self, batch: Any, index: int) -> None:
        points, classes, _ = batch
        right = (self.net(points).argmax(1) == classes).float().mean()
        self.log("accuracy", right, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=TOP_RATE)
        ib = self.data.ib
        if self.options.get("schedule") == "steps":
            steps = ib.max_steps(BATCH)
            cycle = OneCycleLR(optimizer, TOP_RATE, total_steps=steps, cycle_momentum=False)
            schedule: Any = FullRunScheduler(cycle, ib, steps)
        else:
            schedule = progress_lr(optimizer, ib, lambda progress: 1 - progress)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(Callback):
    """What happens, as the Trainer tells it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.epochs: list[dict[str, Any]] = []
        self.bar_totals: list[float] = []
        self.validations = 0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        plan = module.data.ib.plan
        self.epochs.append(
            {
                "epoch": trainer.current_epoch,
                "kept": len(plan.ids),
                "batches": trainer.num_training_batches,
                "ids": [],
            }
        )

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int
    ) -> None:
        if not self.epochs:  # resumed in the midst of an epoch
            self.epochs.append({"epoch": trainer.current_epoch, "ids": []})
        self.epochs[-1]["ids"].append(batch[2].tolist())
        bar = trainer.progress_bar_callback if self.options.get("bar", True) else None
        self.epochs[-1]["bar"] = [bar.train_progress_bar.n, bar.train_progress_bar.total] if bar else None
        stop = self.options.get("stop_at_step")
        if stop is not None and trainer.global_step == stop:
            trainer.save_checkpoint(self.options["checkpoint"])
            trainer.should_stop = True
            raise KeyboardInterrupt

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.validations += not trainer.sanity_checking


class Metrics(Logger):
    """Everything that is logged, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    name = version = None  # type: ignore[assignment]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(dict(metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


def train(folder: Path, **options: Any) -> dict[str, Any]:
    """Trains, and returns what the module's doc string names."""
    torch.manual_seed(7)
    warnings.filterwarnings("ignore", ".*num_workers.*|.*log_every_n_steps.*|.*_pytree.*|.*GPU available.*")
    data = Data(options)
    model, watch, metrics = Model(data, options), Watch(options), Metrics()
    callbacks: list[Callback] = [InfoBatchCallback(lambda: data.ib), watch]
    if options.get("bar", True):
        callbacks.append(TQDMProgressBar(refresh_rate=1))
    if options.get("early"):
        callbacks.append(EarlyStopping("accuracy", patience=1, mode="max", min_delta=0.5))
    if options.get("keep") is not None:
        callbacks.append(ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, **options["keep"]))
    trainer = Trainer(
        max_epochs=options["epochs"], accelerator="cpu", callbacks=callbacks,
        logger=[metrics, CSVLogger(folder)], enable_progress_bar=options.get("bar", True),
        enable_checkpointing=options.get("keep") is not None, enable_model_summary=False,
        num_sanity_val_steps=2, default_root_dir=folder, log_every_n_steps=1, **options.get("trainer", {}),
    )  # fmt: skip
    try:
        trainer.fit(model, data, ckpt_path=options.get("resume"))
    except (KeyboardInterrupt, SystemExit):
        if options.get("stop_at_step") is None:
            raise
    ib = data.ib
    scores = ib.scores.tolist()
    return {
        "epochs": watch.epochs,
        "validations": watch.validations,
        "rows": metrics.rows,
        "rate": trainer.optimizers[0].param_groups[0]["lr"],
        "accuracy": float(trainer.callback_metrics.get("accuracy", 0)),
        "saved": ib.statistics.saved,
        "global_step": trainer.global_step,
        "scores": hashlib.sha256(json.dumps(scores).encode()).hexdigest(),
        "weights": [parameter.detach().flatten().tolist() for parameter in model.parameters()],
        "rank": trainer.global_rank,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, found = Path(sys.argv[1]), []
    for turn, chosen in enumerate(json.loads(sys.argv[2])):
        try:
            found.append(train(where / str(turn), **chosen))
        except TypeError as error:
            found.append({"refused": str(error)})
    (where / f"rank-{found[0]['rank']}.json").write_text(json.dumps(found))
    os._exit(0)
