"""The three lines of the official package: a logistic regression that skips what it has learned.

One learns: where the three lines go, that the criterion gives one loss a sample (reduction='none'), that
shuffle=True goes, and that epochs get shorter while the last ones see every sample again.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch

torch.manual_seed(1)
labels = torch.randint(0, 2, (5000,)).float()
points = torch.randn(5000, 2) + 2 * labels[:, None]  # two overlapping clouds
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

dataset = InfoBatch(TensorDataset(points, labels), num_epochs=10, prune_ratio=0.5)  # 1
loader = DataLoader(dataset, batch_size=100, sampler=dataset.sampler)  # 2

for epoch in range(10):
    print(f"epoch {epoch}: {len(loader)} batches, {len(dataset.sampler)} samples")
    for inputs, targets in loader:
        optimizer.zero_grad()
        outputs = model(inputs).squeeze(1)
        loss = dataset.update(binary_cross_entropy_with_logits(outputs, targets, reduction="none"))  # 3
        loss.backward()
        optimizer.step()

accuracy = ((model(points).squeeze(1) > 0) == (labels > 0.5)).float().mean()
print(f"accuracy {accuracy:.3f} with {dataset.statistics.saved:.1%} of the samples saved")
