"""Trainings with the three lines, as a program: ``training_run.py <folder> <plain|compile|ddp|fsdp2> ...``.

On one process, or on several that torchrun starts. Trains without a break, then once more with a break in the
midst of an epoch, where a new model and a new run go on from what was saved. Writes
``<folder>/<kind>-<r>.json``.
"""

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch, progress_lr

EPOCHS, SAMPLES, CLASSES, BATCH, RATE = 6, 603, 4, 16, 0.05
WHOLE = StateDictOptions(full_state_dict=True)
BREAK = (3, 5)  # epoch, step: what happens before it is saved


def points(count: int, seed: int) -> TensorDataset:
    """Points around one corner a class: ([8] float32, class, id)."""
    corners = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(1)) * 2
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (count,), generator=generator)
    return TensorDataset(
        corners[classes] + torch.randn(count, 8, generator=generator), classes, torch.arange(count)
    )


class Training:
    """Model, optimizer, run and what was seen of them."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(7)
        self.kind = kind
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, CLASSES))
        self.model: Any = self.net
        if kind == "ddp":
            self.model = nn.parallel.DistributedDataParallel(self.net)
        elif kind == "fsdp2":
            from torch.distributed.fsdp import fully_shard

            for layer in (self.net[0], self.net[2]):
                fully_shard(layer)
            self.model = fully_shard(self.net)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=0.9)
        self.ib = InfoBatch(points(SAMPLES, 2), EPOCHS, prune_ratio=0.5, seed=5)
        self.loader = DataLoader(self.ib, batch_size=BATCH, sampler=self.ib.sampler)
        self.schedule = progress_lr(self.optimizer, self.ib, lambda progress: 1 - progress)
        self.epochs: list[dict[str, Any]] = []
        self.step: Any = self.loss_of
        if (
            kind == "compile"
        ):  # at once for all lengths; compiled anew for another one it is in test_compile.py
            self.step = torch.compile(self.loss_of, fullgraph=True, dynamic=True)

    def loss_of(self, inputs: torch.Tensor, classes: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        losses = functional.cross_entropy(self.model(inputs), classes, reduction="none")
        return self.ib.update(losses, ids if self.kind == "compile" else None)

    def run(self, stop: tuple[int, int] | None = None) -> None:
        for epoch in range(self.ib.epoch, EPOCHS):
            self.ib.set_epoch(epoch)
            seen: list[list[int]] = []
            length = len(self.loader)
            self.epochs.append({"epoch": epoch, "kept": self.ib.statistics.kept, "length": length})
            self.epochs[-1]["ids"] = seen
            for inputs, classes, ids in self.loader:
                loss = self.step(inputs, classes, ids)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.schedule.step()
                seen.append(ids.tolist())
                if stop == (epoch, len(seen)):
                    return
            self.epochs[-1]["statistics"] = str(self.ib.statistics)

    def state(self) -> dict[str, Any]:
        """To go on from; all ranks call it, and get the state of the whole model."""
        model, optimizer = self.net.state_dict(), self.optimizer.state_dict()
        if self.kind == "fsdp2":
            model, optimizer = get_state_dict(self.model, self.optimizer, options=WHOLE)
        return {"model": model, "optimizer": optimizer, "ib": self.ib.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        if self.kind == "fsdp2":
            parts = {"model_state_dict": state["model"], "optim_state_dict": state["optimizer"]}
            set_state_dict(self.model, self.optimizer, **parts, options=WHOLE)
        else:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.ib.load_state_dict(state["ib"])

    def result(self) -> dict[str, Any]:
        if dist.is_initialized():
            self.ib.set_epoch(EPOCHS)  # the last losses, too
        inputs, classes, _ = points(200, 3).tensors
        with torch.no_grad():
            right = (self.model(inputs).argmax(1) == classes).float().mean()
        parameters = [getattr(p, "full_tensor", lambda p=p: p)() for p in self.model.parameters()]
        return {
            "epochs": self.epochs,
            "accuracy": float(right),
            "rate": self.optimizer.param_groups[0]["lr"],
            "saved": self.ib.get_pruned_count() / (EPOCHS * SAMPLES),
            "scores": hashlib.sha256(self.ib.scores.numpy().tobytes()).hexdigest(),
            "weights": [p.detach().flatten().tolist() for p in parameters],
        }


def train(kind: str, folder: Path) -> dict[str, Any]:
    """Without a break, and with one."""
    alone = Training(kind)
    alone.run()
    broken = Training(kind)
    broken.run(stop=BREAK)
    state = broken.state()
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank == 0:
        torch.save(state, folder / f"{kind}.pt")
    if dist.is_initialized():
        dist.barrier()
    resumed = Training(kind)
    resumed.load(torch.load(folder / f"{kind}.pt", weights_only=True))
    resumed.run()
    return {"alone": alone.result(), "before": broken.epochs, "resumed": resumed.result(), "rank": rank}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    for which in sys.argv[2:]:
        found = train(which, where)
        (where / f"{which}-{found['rank']}.json").write_text(json.dumps(found))
    with contextlib.suppress(Exception):
        dist.destroy_process_group()
