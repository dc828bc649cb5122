"""Ids in the batch: right also where batches are skipped or come out of order.

One learns: `Indexed(dataset)` puts its index before each sample, `update(losses, ids)` uses them, and without
them a skipped batch is refused inside the loop, before anything wrong is written.
"""

from torch.utils.data import DataLoader

from infobatch import Indexed, InfoBatch

numbers = [float(i) for i in range(1000)]  # sample i is the number i, and that is its loss, too
ib = InfoBatch(numbers, num_epochs=5, seed=1)
loader = DataLoader(Indexed(numbers), batch_sampler=ib.batch_sampler(50))

try:
    for number, (_, losses) in enumerate(loader):
        if number != 3:  # a batch that never reaches the model
            ib.update(losses)
except RuntimeError as error:
    print(f"without ids: {error}")
ib.discard_epoch()  # once more, as if nothing had been observed

batches = list(loader)
batches.reverse()  # another order
for number, (ids, losses) in enumerate(batches):
    if number % 4 != 3:  # some are skipped
        ib.update(losses, ids)
ib.set_epoch(1)  # the losses enter the scores

seen = ~ib.scores.isnan()  # NaN: never observed, so kept in the next epoch
wrong = int((ib.scores[seen] != seen.nonzero().squeeze(1)).sum())
print(f"with ids: {int(seen.sum())} samples scored, {wrong} of them wrong")
print(f"next epoch: {len(ib.sampler)} of 1000 samples")
