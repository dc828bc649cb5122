"""A fixed budget: ask for the share of samples to save, not for a prune ratio.

One learns: with `target_saved` the prune ratio is solved for at the beginning of each epoch from what is left
of the budget; `statistics` shows promised against actual, and a share that cannot be reached is refused.
"""

import random

from infobatch import InfoBatch

SIZE, EPOCHS, TARGET = 5000, 20, 0.25
rng = random.Random(1)
hardness = [rng.expovariate(1.0) for _ in range(SIZE)]  # skewed, as losses are

ib = InfoBatch(SIZE, EPOCHS, target_saved=TARGET, seed=1)
for epoch in range(EPOCHS):
    for ids in ib.batch_sampler(250):
        ib.update([hardness[i] / (1 + 0.2 * epoch) * (0.5 + rng.random()) for i in ids])
    figures = ib.statistics
    print(
        f"epoch {epoch:2}: prune ratio {figures.prune_ratio:.3f}, {figures.kept} samples, "
        f"{figures.actual_saved:.1%} of the run saved"
    )
print(f"promised {figures.promised_saved:.3f}, saved {figures.actual_saved:.3f}")

try:
    InfoBatch(SIZE, EPOCHS, target_saved=0.95)
except ValueError as error:
    print(f"refused: {error}")
