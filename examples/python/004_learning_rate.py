"""One cycle of the learning rate over epochs of any length.

One learns: a step count fixed in advance does not fit, because epochs have fewer steps when samples are
skipped. `progress_lr` is a schedule on the fraction of the run; `FullRunScheduler` drives any scheduler of
torch that counts steps.
"""

import math

import torch
from torch.optim.lr_scheduler import OneCycleLR

from infobatch import FullRunScheduler, InfoBatch, progress_lr

EPOCHS, BATCH = 10, 50
torch.manual_seed(1)
x = torch.randn(2000, 3)
y = x.sum(1) + 0.3 * torch.randn(2000).pow(3)


def cosine(progress: float) -> float:
    """From 1 to 0 over the run."""
    return 0.5 * (1 + math.cos(math.pi * progress))


for name in ("progress_lr, cosine", "FullRunScheduler, OneCycleLR"):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ib = InfoBatch(len(x), EPOCHS, seed=1)
    most = ib.max_steps(BATCH)  # the steps of a run that skips nothing
    if name.startswith("progress"):
        schedule = progress_lr(optimizer, ib, cosine)
    else:
        schedule = FullRunScheduler(OneCycleLR(optimizer, max_lr=0.1, total_steps=most), ib, most)
    steps, rates = 0, []
    for _ in range(EPOCHS):
        for ids in ib.batch_sampler(BATCH):
            rates.append(optimizer.param_groups[0]["lr"])
            losses = (model(x[ids]).squeeze(1) - y[ids]).square()
            optimizer.zero_grad()
            ib.update(losses).backward()
            optimizer.step()
            schedule.step()  # behind each optimizer step
            steps += 1
    print(f"{name}: {steps} steps of at most {most}")
    shown = " ".join(f"{rate:.4f}" for rate in rates[:: steps // 8])
    print(f"  rate {shown}, at the end {schedule.get_last_lr()[0]:.6f}")
