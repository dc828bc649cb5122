"""LitData as a stream: chunks come in LitData's own order, and only what the plan keeps is decoded.

One learns: that samples carry their ids, and that without workers epochs follow one another by themselves.
"""

import tempfile
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataset, optimize
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from infobatch import InfoBatch

SIZE, EPOCHS = 2000, 8


def sample(number: int) -> dict[str, Any]:
    inputs = np.random.default_rng(number).normal(number % 2 * 0.5, 1.0, 32)
    return {"id": number, "raw": inputs.astype(np.float32).tobytes(), "target": number % 2}


def decode(samples: list[dict[str, Any]]) -> Any:
    inputs = np.stack([np.frombuffer(row["raw"], np.float32) for row in samples])
    ids, targets = [row["id"] for row in samples], [row["target"] for row in samples]
    return torch.tensor(ids), torch.from_numpy(inputs), torch.tensor(targets)


def train(folder: str) -> None:
    torch.manual_seed(1)
    dataset = StreamingDataset(folder, shuffle=True)
    ib = InfoBatch(len(dataset), EPOCHS, seed=1)  # 1
    loader = DataLoader(ib.filter(dataset, "id"), batch_size=50, collate_fn=decode)  # 2
    model = torch.nn.Linear(32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(EPOCHS):
        decoded = right = 0
        for ids, inputs, targets in loader:
            outputs = model(inputs)
            loss = ib.update(cross_entropy(outputs, targets, reduction="none"), ids)  # 3
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decoded, right = decoded + len(ids), right + int((outputs.argmax(1) == targets).sum())
        print(f"epoch {epoch}: {decoded} of {SIZE} samples decoded, accuracy {right / decoded:.3f}")
    print(f"{ib.statistics.saved:.1%} of the samples saved")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        optimize(sample, list(range(SIZE)), temporary, chunk_bytes="100KB", num_workers=1, verbose=False)
        train(temporary)
