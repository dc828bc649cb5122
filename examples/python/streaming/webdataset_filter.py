"""WebDataset: what the plan leaves out is skipped before it is decoded, in the workers of the loader.

One learns: where the filter goes, that losses go by ids, and that set_epoch comes before each epoch.
"""

import io
import tempfile

import numpy as np
import torch
import webdataset as wds
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from infobatch import InfoBatch

SIZE, EPOCHS = 2000, 8


def write_shards(folder: str) -> list[str]:
    rng = np.random.default_rng(1)
    with wds.ShardWriter(f"{folder}/%03d.tar", maxcount=250, verbose=0) as shards:
        for number in range(SIZE):
            file = io.BytesIO()
            np.save(file, rng.normal(number % 2 * 0.5, 1.0, 32).astype(np.float32))
            shards.write({"__key__": f"{number:08d}", "npy": file.getvalue(), "cls": number % 2})
    return [f"{folder}/{shard:03d}.tar" for shard in range(SIZE // 250)]


def train(shards: list[str]) -> None:
    torch.manual_seed(1)
    ib = InfoBatch(SIZE, EPOCHS, seed=1)  # 1
    samples = (
        wds.WebDataset(shards, shardshuffle=100, seed=1)
        .compose(ib.filter(id_of="__key__"))  # 2: before decode
        .shuffle(500)
        .decode()
        .to_tuple("__key__", "npy", "cls")
        .map_tuple(int, torch.from_numpy, int)
    )
    loader = DataLoader(samples, batch_size=50, num_workers=2, persistent_workers=True)
    model = torch.nn.Linear(32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)  # workers cannot see where the run stands
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
        train(write_shards(temporary))
