"""MosaicML Streaming by index: of its shards the samples of the plan are read, and the others are not.

One learns: that Indexed makes a map-style data set of a StreamingDataset, whose order is then the plan's.
"""

import tempfile
from typing import Any

import numpy as np
import torch
from streaming import MDSWriter, StreamingDataset
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from infobatch import Indexed, InfoBatch

SIZE, EPOCHS = 2000, 8


def write_shards(folder: str) -> None:
    rng = np.random.default_rng(1)
    with MDSWriter(out=folder, columns={"raw": "bytes", "target": "int"}, size_limit=40_000) as shards:
        for number in range(SIZE):
            inputs = rng.normal(number % 2 * 0.5, 1.0, 32).astype(np.float32)
            shards.write({"raw": inputs.tobytes(), "target": number % 2})


def decode(samples: list[tuple[int, dict[str, Any]]]) -> Any:
    inputs = np.stack([np.frombuffer(row["raw"], np.float32) for _, row in samples])
    ids, targets = [id for id, _ in samples], [row["target"] for _, row in samples]
    return torch.tensor(ids), torch.from_numpy(inputs), torch.tensor(targets)


def train(folder: str) -> None:
    torch.manual_seed(1)
    dataset = Indexed(StreamingDataset(local=folder, batch_size=50))
    ib = InfoBatch(len(dataset), EPOCHS, seed=1)  # 1
    loader = DataLoader(dataset, batch_sampler=ib.batch_sampler(50), collate_fn=decode, num_workers=2)  # 2
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
        write_shards(f"{temporary}/shards")
        train(f"{temporary}/shards")
