"""Several ranks: the three lines under torchrun, each rank on its share, DDP as ever.

    torchrun --standalone --nproc-per-node 2 examples/python/017_ranks.py

One learns: `init_process_group` comes first, and nothing else is said; every rank makes as many steps;
nothing travels in a step but DDP's gradients; figures and checkpoint are those of one process, which this is
without torchrun.
"""

import os

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch, progress_lr

EPOCHS = 8
GLOBAL_BATCH = 128  # of all ranks together
ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
if ranks > 1:
    dist.init_process_group("gloo")

torch.manual_seed(1)
labels = torch.randint(0, 4, (4001,))
inputs = torch.randn(4001, 8) + 1.5 * torch.eye(4, 8)[labels]
net: torch.nn.Module = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
model = DistributedDataParallel(net) if ranks > 1 else net
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)

dataset = InfoBatch(TensorDataset(inputs, labels), EPOCHS, seed=1)
loader = DataLoader(dataset, batch_size=GLOBAL_BATCH // ranks, sampler=dataset.sampler)
schedule = progress_lr(optimizer, dataset, lambda progress: 1 - 0.9 * progress)

steps = 0
for epoch in range(EPOCHS):
    dataset.set_epoch(epoch)
    for x, target in loader:
        loss = dataset.update(cross_entropy(model(x), target, reduction="none"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        steps += 1
    state = dataset.state_dict()  # on every rank; one of them keeps it
    if rank == 0:
        print(dataset.statistics)

accuracy = (net(inputs).argmax(1) == labels).float().mean().item()
if rank == 0:
    norm = torch.cat([p.detach().flatten() for p in net.parameters()]).norm().item()
    print(f"{ranks} ranks, {steps} steps, accuracy {accuracy:.3f}, norm of the parameters {norm:.4f}")
if ranks > 1:
    dist.destroy_process_group()
