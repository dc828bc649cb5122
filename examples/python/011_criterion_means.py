"""Class weights and label smoothing, ignored targets: the criterion's own mean, from per-sample losses.

One learns: such a criterion does not divide by the number of losses but by the sum of what counts;
reduction='sum' over that divisor is its mean, and `scores=` keeps the score right.
"""

import torch
from torch.nn.functional import cross_entropy

from infobatch import InfoBatch

SIZE, CLASSES, TOKENS = 6, 5, 7
torch.manual_seed(1)


def one_batch() -> tuple[InfoBatch, list[int]]:
    """A run of which one batch, all samples in the order of the plan, was delivered."""
    ib = InfoBatch(SIZE, num_epochs=5, seed=1)
    return ib, next(iter(ib.batch_sampler(SIZE)))


# Classes with weights: the criterion divides by the sum of the rows' class weights.
class_weights = torch.rand(CLASSES) + 0.2
logits, labels = torch.randn(SIZE, CLASSES), torch.randint(0, CLASSES, (SIZE,))
options = {"weight": class_weights, "label_smoothing": 0.1}
ib, ids = one_batch()
losses = cross_entropy(logits[ids], labels[ids], **options, reduction="none")
loss = ib.update(losses, reduction="sum") / class_weights[labels[ids]].sum()
difference = (loss - cross_entropy(logits[ids], labels[ids], **options)).abs()
print(f"class weights: {loss:.4f}, differs from the criterion's mean by {difference:.0e}")

# Tokens of which some are ignored: it divides by the number of those that count.
logits, labels = torch.randn(SIZE, CLASSES, TOKENS), torch.randint(0, CLASSES, (SIZE, TOKENS))
for row in range(SIZE):
    labels[row, row + 1 :] = -100  # ignore_index
ib, ids = one_batch()
losses = cross_entropy(logits[ids], labels[ids], reduction="none")
mask = labels[ids] != -100
scores = losses.sum(1) / mask.sum(1)
loss = ib.update(losses, scores=scores, reduction="sum") / mask.sum()
difference = (loss - cross_entropy(logits[ids], labels[ids])).abs()
print(f"ignored targets: {loss:.4f}, differs from the criterion's mean by {difference:.0e}")
ib.set_epoch(1)  # the losses enter the scores
print(f"the scores are those that were given: {torch.equal(ib.scores[ids], scores)}")
