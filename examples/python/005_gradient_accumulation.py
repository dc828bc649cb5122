"""Gradient accumulation: one update a micro-batch, one optimizer step a batch.

One learns: `batch_sampler` knows the batches, so one may come back in parts. Each part has an update of its
own, with reduction='sum'; divided by the size of the whole batch, the gradient is that of the whole batch.
Parts have one size, the last of a batch the rest: tensor.split(m).
"""

import torch

from infobatch import InfoBatch

EPOCHS, SIZE, BATCH = 6, 640, 64


def train(part_size: int) -> tuple[torch.Tensor, int]:
    """Trains with batches cut into parts; returns the parameters and the number of updates."""
    torch.manual_seed(1)
    x = torch.randn(SIZE, 3)
    y = x.sum(1) + torch.randn(SIZE).pow(3)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    ib = InfoBatch(SIZE, EPOCHS, seed=3)
    updates = 0
    for _ in range(EPOCHS):
        for batch in ib.batch_sampler(BATCH):
            optimizer.zero_grad()
            for part in torch.tensor(batch).split(part_size):
                losses = (model(x[part]).squeeze(1) - y[part]).square()
                loss = ib.update(losses, reduction="sum") / len(batch)
                loss.backward()  # gradients add up
                updates += 1
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), updates


whole, whole_updates = train(BATCH)
parts, part_updates = train(16)
difference = (whole - parts).abs().max().item()
print(f"{whole_updates} updates with whole batches, {part_updates} with micro-batches")
print(f"parameters differ by {difference:.0e}")
