"""Mixup: the row counts as the sample that dominates it.

One learns: pairs are made within the batch; lambda is at least 0.5, so that row i is mostly about sample i;
`scores=` is the part of the loss that is about i, so that the partner's hardness does not enter i's score.
"""

import torch
from torch.nn.functional import cross_entropy

from infobatch import InfoBatch

EPOCHS, SIZE = 8, 2000
torch.manual_seed(1)
labels = torch.randint(0, 3, (SIZE,))
inputs = torch.randn(SIZE, 6) + 2 * torch.eye(3, 6)[labels]
wrong = torch.rand(SIZE) < 0.05  # wrongly labelled: these stay hard
labels[wrong] = (labels[wrong] + 1) % 3
model = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
beta = torch.distributions.Beta(0.2, 0.2)

ib = InfoBatch(SIZE, EPOCHS, seed=1)
for _ in range(EPOCHS):
    for ids in ib.batch_sampler(100):
        x, target = inputs[ids], labels[ids]
        lam = beta.sample().item()
        lam = max(lam, 1 - lam)  # the row's own sample dominates
        partner = torch.randperm(len(ids))
        outputs = model(lam * x + (1 - lam) * x[partner])
        own = cross_entropy(outputs, target, reduction="none")
        mixed = lam * own + (1 - lam) * cross_entropy(outputs, target[partner], reduction="none")
        loss = ib.update(mixed, scores=own.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

accuracy = (model(inputs).argmax(1) == labels)[~wrong].float().mean()
ib.set_epoch(EPOCHS)  # the losses of the last epoch enter the scores
print(f"accuracy {accuracy:.3f} with {ib.statistics.saved:.1%} of the samples saved")
print(f"mean score of wrong labels {ib.scores[wrong].mean():.2f}, of others {ib.scores[~wrong].mean():.2f}")
