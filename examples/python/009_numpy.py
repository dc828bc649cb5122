"""A loop without a framework: NumPy arrays in, NumPy arrays out.

One learns: `observe` records the losses and returns the weights, for a gradient by hand; `update` would
return the weighted mean. Indices are a list, scores an array, and torch is not loaded.
"""

import sys

import numpy as np

from infobatch import InfoBatch

SIZE, BATCH, EPOCHS = 2000, 50, 10
x = np.sin(0.37 * np.arange(SIZE))
y = 3 * x + 0.2 * np.cos(1.7 * np.arange(SIZE)) ** 5

ib = InfoBatch(SIZE, EPOCHS, seed=1)
slope = 0.0
for _ in range(EPOCHS):
    for ids in ib.batch_sampler(BATCH):
        error = slope * x[ids] - y[ids]
        weights = ib.observe(error**2)  # [B] float32
        slope -= 0.2 * (weights * 2 * error * x[ids]).mean()
    print(f"{ib.statistics}; slope {slope:.3f}")

scores = ib.scores  # a view, read-only
print(f"scores: {scores.dtype}, {scores.shape}; torch loaded: {'torch' in sys.modules}")
