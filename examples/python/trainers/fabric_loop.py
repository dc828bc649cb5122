"""Fabric: the three lines; Fabric sets up model and optimizer, and moves the batches.

One learns: the training loader is not given to `fabric.setup_dataloaders`, which would count epochs anew
behind a load; `fabric.to_device` does the rest of it. The run is saved beside the model.
"""

import tempfile

import torch
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch

EPOCHS = 8
fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
fabric.launch()
torch.manual_seed(1)
labels = torch.randint(0, 4, (4000,))
inputs = torch.randn(4000, 8) + 1.5 * torch.eye(4, 8)[labels]


def run(path: str, until: int, resume: bool) -> tuple[InfoBatch, torch.nn.Module]:
    dataset = InfoBatch(TensorDataset(inputs, labels), EPOCHS, seed=1)
    loader = DataLoader(dataset, batch_size=64, sampler=dataset.sampler)
    net = torch.nn.Linear(8, 4)
    model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.2))
    state = {"model": model, "optimizer": optimizer, "ib": dataset.state_dict()}
    if resume:
        fabric.load(path, state)
        dataset.load_state_dict(state["ib"])
        print(f"goes on with epoch {dataset.epoch}")
    for epoch in range(dataset.epoch, until):
        dataset.set_epoch(epoch)
        for batch in loader:
            x, target = fabric.to_device(batch)
            loss = dataset.update(cross_entropy(model(x), target, reduction="none"))
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
    fabric.save(path, {**state, "ib": dataset.state_dict()})
    return dataset, model


with tempfile.TemporaryDirectory() as folder:
    run(f"{folder}/checkpoint.pt", until=4, resume=False)
    dataset, model = run(f"{folder}/checkpoint.pt", until=EPOCHS, resume=True)
print(dataset.statistics)
print(f"accuracy {(model(inputs).argmax(1) == labels).float().mean():.2f}")
