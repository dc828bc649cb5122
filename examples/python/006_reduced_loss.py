"""A criterion that only returns a reduced loss: observe the scores, scale the gradient.

One learns: `observe(scores)` records any figure of each sample and returns the weights;
`scale_gradient(outputs, weights)` between model and criterion gives the parameters the gradient of the
weighted loss. The value of the loss stays the criterion's own.
"""

import torch

from infobatch import InfoBatch, scale_gradient

EPOCHS = 8
torch.manual_seed(1)
x = torch.randn(1000, 4)
y = x.sum(1, keepdim=True) + torch.randn(1000, 1).pow(3)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = torch.nn.MSELoss()  # reduces to a scalar

ib = InfoBatch(len(x), EPOCHS, seed=1)
try:
    next(iter(ib.batch_sampler(100)))
    ib.update(criterion(model(x[:100]), y[:100]))
except ValueError as error:
    print(f"refused: {error}")

largest = 0.0
for _ in range(EPOCHS):
    for ids in ib.batch_sampler(100):
        outputs, targets = model(x[ids]), y[ids]
        weights = ib.observe((outputs - targets).square().squeeze(1))  # [B]; detached inside
        loss = criterion(scale_gradient(outputs, weights), targets)
        optimizer.zero_grad()
        loss.backward(retain_graph=True)

        # The same by hand, for comparison.
        by_hand = (weights * (outputs - targets).square().squeeze(1)).mean()
        (wanted,) = torch.autograd.grad(by_hand, model.weight)
        largest = max(largest, (model.weight.grad - wanted).abs().max().item())
        optimizer.step()
print(f"{ib.statistics.saved:.1%} of the samples saved")
print(f"gradients differ from those of the weighted loss by {largest:.0e}")
