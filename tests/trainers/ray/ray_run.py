"""Trainings of Ray Train on two workers of this machine; what each worker found is pickled to its folder.

    ray_run.py <folder>

One is never stopped. One loses its workers in the midst of epoch 3, behind a checkpoint of that step, and Ray
starts them again. One has a batch sampler.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch, progress_lr

SIZE, EPOCHS, BATCH = 402, 6, 20


class Worker:
    """A worker's run."""

    def __init__(self, config: dict[str, Any]) -> None:
        torch.manual_seed(1)
        self.rank = ray.train.get_context().get_world_rank()
        self.folder = Path(config["folder"])
        self.targets = torch.randint(0, 2, (SIZE,))
        self.points = torch.randn(SIZE, 2) + 2 * self.targets[:, None]
        self.ib = InfoBatch(TensorDataset(self.points, self.targets), EPOCHS, seed=1)
        if config["name"] == "batches":
            plain = DataLoader(self.ib, batch_sampler=self.ib.batch_sampler(BATCH))
            self.loader = prepare_data_loader(plain, add_dist_sampler=False)
        else:
            self.loader = prepare_data_loader(DataLoader(self.ib, BATCH, sampler=self.ib.sampler))
        self.model = prepare_model(torch.nn.Linear(2, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.2)
        self.schedule = progress_lr(self.optimizer, self.ib, lambda progress: 1 - progress)

    def resume(self) -> int:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return -1
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.ib.load_state_dict(state["ib"])
        return self.ib.epoch

    def step(self, batch: Any) -> None:
        inputs, labels = batch
        loss = self.ib.update(cross_entropy(self.model(inputs), labels, reduction="none"))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def report(self) -> None:
        now = self.ib.statistics
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "ib": self.ib}
        state = {name: part.state_dict() for name, part in parts.items()}
        metrics = {"epoch": now.epoch, "kept": now.kept, "saved": now.saved, "accuracy": self.accuracy()}
        with tempfile.TemporaryDirectory() as folder:
            if self.rank == 0:
                torch.save(state, Path(folder) / "state.pt")
            checkpoint = ray.train.Checkpoint.from_directory(folder) if self.rank == 0 else None
            ray.train.report(metrics, checkpoint)

    def accuracy(self) -> float:
        with torch.no_grad():
            return float((self.model(self.points).argmax(1) == self.targets).float().mean())


def train_loop(config: dict[str, Any]) -> None:
    worker = Worker(config)
    begun_in = worker.resume()
    lengths: dict[int, tuple[int, int, int]] = {}
    for epoch in range(worker.ib.epoch, EPOCHS):
        worker.ib.set_epoch(epoch)
        length, steps = len(worker.loader), 0
        for batch in worker.loader:
            worker.step(batch)
            steps += 1
            if config["name"] == "stopped" and begun_in < 0 and (epoch, steps) == (3, 4):
                worker.report()
                raise RuntimeError("stopped by the test")
        lengths[epoch] = (length, steps, worker.ib.statistics.kept)
        worker.report()
    saved = worker.ib.statistics.saved
    worker.ib.set_epoch(EPOCHS)
    found = {
        "begun_in": begun_in,
        "lengths": lengths,
        "rate": worker.schedule.get_last_lr(),
        "scores": worker.ib.scores.tolist(),
        "model": [parameter.tolist() for parameter in worker.model.parameters()],
        "accuracy": worker.accuracy(),
        "saved": saved,
    }
    (worker.folder / f"{config['name']}-{worker.rank}").write_bytes(pickle.dumps(found))


def fit(name: str, folder: Path, failures: int) -> Any:
    storage = ray.train.RunConfig(
        storage_path=str(folder / "results"),
        failure_config=ray.train.FailureConfig(max_failures=failures),
    )
    config = {"name": name, "folder": str(folder)}
    workers = ray.train.ScalingConfig(num_workers=2)
    trainer = TorchTrainer(train_loop, train_loop_config=config, scaling_config=workers, run_config=storage)
    return trainer.fit()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    paths = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": paths})
    for name, failures in (("whole", 0), ("stopped", 1), ("batches", 0)):
        metrics = fit(name, folder, failures).metrics
        (folder / f"{name}-metrics").write_bytes(pickle.dumps(metrics))
    ray.shutdown()
