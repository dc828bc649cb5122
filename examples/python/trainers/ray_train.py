"""Ray Train: two workers, a checkpoint each epoch, and a run that goes on from the last one.

One learns: the three lines stay as they are, for Ray leaves `sampler=ib.sampler` alone; all workers call
`state_dict`, and the one of rank 0 writes it into the checkpoint.
"""

import tempfile
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch, progress_lr

SIZE, EPOCHS = 2000, 8


def train_loop(config: dict[str, Any]) -> None:
    torch.manual_seed(1)
    targets = torch.randint(0, 2, (SIZE,))
    points = torch.randn(SIZE, 2) + 2 * targets[:, None]
    dataset = InfoBatch(TensorDataset(points, targets), EPOCHS, seed=1)  # 1
    loader = prepare_data_loader(DataLoader(dataset, 50, sampler=dataset.sampler))  # 2, of each worker
    model = prepare_model(torch.nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    schedule = progress_lr(optimizer, dataset, lambda progress: 1 - progress)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ib": dataset}
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(dataset.epoch, EPOCHS):
        dataset.set_epoch(epoch)  # losses are exchanged here
        for inputs, labels in loader:
            loss = dataset.update(cross_entropy(model(inputs), labels, reduction="none"))  # 3
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        right = float((model(points).argmax(1) == targets).float().mean())
        now, state = dataset.statistics, {name: part.state_dict() for name, part in parts.items()}
        metrics = {"kept": now.kept, "saved": now.saved, "accuracy": right, "lr": schedule.get_last_lr()[0]}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "state.pt")
            first = ray.train.get_context().get_world_rank() == 0
            ray.train.report(metrics, ray.train.Checkpoint.from_directory(folder) if first else None)


if __name__ == "__main__":
    workers = ray.train.ScalingConfig(num_workers=2)
    result = TorchTrainer(train_loop, scaling_config=workers).fit()
    print({name: round(value, 3) for name, value in result.metrics.items()})
