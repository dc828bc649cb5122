"""New code: a length instead of a data set, batches from the plan, figures after each epoch.

One learns: `InfoBatch(N, ...)` wraps nothing; `batch_sampler` delivers whole batches, which is faster than
`sampler` and lets a batch come back in parts; `statistics` is worth printing.
"""

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch

EPOCHS = 8
torch.manual_seed(1)
labels = torch.randint(0, 4, (4000,))
inputs = torch.randn(4000, 8) + 1.5 * torch.eye(4, 8)[labels]
dataset = TensorDataset(inputs, labels)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

ib = InfoBatch(len(dataset), EPOCHS, seed=1, keep="exact", columns={"class": labels})
loader = DataLoader(dataset, batch_sampler=ib.batch_sampler(128))

for _ in range(EPOCHS):
    for x, target in loader:
        loss = ib.update(cross_entropy(model(x), target, reduction="none"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(ib.statistics)

print(f"progress {ib.progress}; mean score of each class:")
print([round(ib.scores[labels == c].mean().item(), 3) for c in range(4)])
