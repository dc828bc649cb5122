"""A loop of Accelerate that notes what it does, on one process or as one of several."""

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from infobatch import InfoBatch, progress_lr
from infobatch.accelerate import figures, prepare

N, EPOCHS, BATCH, MICRO = 151, 8, 8, 2


class Stop(Exception):
    """The process is killed here."""


class Loop:
    """Data whose last samples are noise, a small network, and the loop."""

    def __init__(self, rows: bool = False, drop_last: bool = False, workers: int = 0, **options: Any) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO, **options)
        torch.manual_seed(4)
        self.labels = torch.randint(0, 4, (N,))
        self.inputs = torch.randn(N, 8) * 0.5 + 2.0 * torch.eye(4, 8)[self.labels]
        self.labels[130:] = torch.randint(0, 4, (N - 130,))
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        rate = torch.optim.Adam(net.parameters(), lr=0.02)
        self.run = InfoBatch(N, EPOCHS, seed=3, split="global")
        self.loader = prepare(
            self.accelerator,
            self.run,
            TensorDataset(self.inputs, self.labels),
            BATCH,
            drop_last=drop_last,
            num_workers=workers,
        )
        schedule = progress_lr(rate, self.run, lambda progress: 1 - progress)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(net, rate, schedule)
        self.rows = rows
        self.noted: list[tuple[int, list[int], list[float]]] = []
        self.rates: list[float] = []
        self.lengths: list[tuple[int, int]] = []
        self.gathered: list[list[int]] = []
        self.logs: list[dict[str, float]] = []
        self.updates = 0

    def train(self, folder: Path | None = None, save: int = -1, stop: bool = False) -> None:
        """Saves behind an update, and stops there, if so asked."""
        for epoch in range(self.run.epoch, EPOCHS):
            self.run.set_epoch(epoch)
            length, batches, gathered = len(self.loader), 0, []
            for ids, (x, target) in self.loader:
                with self.accelerator.accumulate(self.model):
                    each = cross_entropy(self.model(x), target, reduction="none")
                    self.noted.append((epoch, ids.tolist(), self.run.get_weights(ids).tolist()))
                    loss = self.run.update(each, ids)
                    assert loss.dtype is torch.float32
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.schedule.step()
                    self.optimizer.zero_grad()
                batches += 1
                if self.rows:
                    gathered += self.accelerator.gather_for_metrics(ids).tolist()
                if self.accelerator.sync_gradients:
                    self.updates += 1
                    self.rates.append(self.schedule.get_last_lr()[0])
                    if self.updates == save:
                        self.accelerator.save_state(str(folder))
                        if stop:
                            raise Stop
            self.lengths.append((length, batches))
            self.gathered.append(gathered)
            self.logs.append(figures(self.run))
        self.run.set_epoch(EPOCHS)

    def ids_of(self, epoch: int) -> list[int]:
        return [id for number, ids, _ in self.noted if number == epoch for id in ids]

    def parameters(self) -> list[float]:
        net = self.accelerator.unwrap_model(self.model)
        return torch.cat([value.detach().flatten() for value in net.parameters()]).tolist()

    def accuracy(self) -> float:
        found = self.model(self.inputs[:130]).argmax(1)
        return (found == self.labels[:130]).float().mean().item()

    def found(self) -> dict[str, Any]:
        names = ("noted", "rates", "lengths", "gathered", "logs", "updates")
        scores = self.run.scores.tolist()
        own = {"parameters": self.parameters(), "scores": scores, "accuracy": self.accuracy()}
        return {**{name: getattr(self, name) for name in names}, **own}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    folder = target.parent / "checkpoint"
    loop = Loop(rows=True)
    loop.train(folder, save=12)
    found = loop.found()
    resumed = Loop()
    resumed.accelerator.load_state(str(folder))
    resumed.train()
    found["resumed"] = resumed.found()
    try:
        sharded = InfoBatch(N, EPOCHS)
        prepare(loop.accelerator, sharded, range(N), 4)
    except ValueError as error:
        found["refused"] = str(error)
    target.write_bytes(pickle.dumps(found))
