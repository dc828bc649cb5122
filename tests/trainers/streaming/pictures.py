"""Generated pictures in the formats of several loaders, how each is read with a run, and what that costs.

Two classes of 24 x 24 grey pictures, as JPEG; a linear model tells them apart by their brightness, most of
them easily. Sample i has id i in every format.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from infobatch import Indexed, InfoBatch

if TYPE_CHECKING:
    from collections.abc import Callable

N = 600
BATCH = 20
EPOCHS = 8
#: Bytes of a shard: some 50 pictures.
SHARD = 50_000


def picture(index: int) -> dict[str, Any]:
    """An undecoded sample."""
    noise = np.random.default_rng(index)
    pixels = noise.normal(110 + 6 * (index % 2), 40, (24, 24)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return {"id": index, "jpg": file.getvalue(), "cls": index % 2}


class Counter:
    """How much was read and decoded in this process."""

    def __init__(self) -> None:
        self.decoded = 0
        self.touched = 0  # bytes of the pictures that were decoded
        self._before = 0

    def start(self) -> None:
        self.decoded = self.touched = 0
        self._before = self._read()

    @staticmethod
    def _read() -> int:
        """Bytes that the process has read, from the system's own account; what is mapped does not count."""
        return int(Path("/proc/self/io").read_text().split()[1])

    @property
    def read(self) -> int:
        return self._read() - self._before


COUNTER = Counter()


def decode(sample: dict[str, Any]) -> tuple[int, torch.Tensor, int]:
    """(id, pixels [576], class) of an undecoded sample, in whatever form a loader has it."""
    data = bytes(sample["jpg"])
    COUNTER.decoded += 1
    COUNTER.touched += len(data)
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32).reshape(-1)
    id = sample["id"] if "id" in sample else sample["__key__"]
    return int(id), torch.from_numpy((pixels - 113) / 40), int(sample["cls"])


class Decoded:
    """Samples by index, decoded."""

    def __init__(self, samples: Any, size: int) -> None:
        self.samples = samples
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        _, pixels, label = decode(self.samples[index])
        return pixels, label


class Mapped(torch.utils.data.IterableDataset[Any]):
    """A function of each sample of a stream."""

    def __init__(self, function: Callable[[Any], Any], stream: Any) -> None:
        self.function = function
        self.stream = stream

    def __iter__(self) -> Any:
        return map(self.function, self.stream)


class Files:
    """Samples by index, a file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, index: int) -> dict[str, Any]:
        with open(self.folder / f"{index:04d}.jpg", "rb", buffering=0) as file:
            return {"id": index, "jpg": file.read(), "cls": index % 2}


# --- written


def write_files(folder: Path) -> None:
    folder.mkdir()
    for index in range(N):
        (folder / f"{index:04d}.jpg").write_bytes(picture(index)["jpg"])


def write_webdataset(folder: Path) -> None:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%03d.tar"), maxsize=SHARD, verbose=0) as shards:
        for index in range(N):
            sample = picture(index)
            shards.write({"__key__": f"{index:08d}", "jpg": sample["jpg"], "cls": sample["cls"]})


def write_mosaicml(folder: Path) -> None:
    from streaming import MDSWriter

    columns = {"id": "int", "jpg": "bytes", "cls": "int"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD) as shards:
        for index in range(N):
            shards.write(picture(index))


def write_litdata(folder: Path) -> None:
    from litdata.streaming.cache import Cache

    folder.mkdir()
    shards = Cache(str(folder), chunk_bytes=SHARD)
    for index in range(N):
        shards[index] = picture(index)
    shards.done()
    shards.merge()


# --- read with a run


def _by_index(ib: InfoBatch, samples: Any, loader: Any = DataLoader, **options: Any) -> Any:
    decoded = Indexed(Decoded(samples, N))
    return loader(decoded, batch_sampler=ib.batch_sampler(BATCH), collate_fn=batch_of_pairs, **options)


def batch_of_pairs(samples: list[Any]) -> Any:
    """(id, (pixels, class)) as a batch of (ids, pixels, classes)."""
    return batch_of([(id, *sample) for id, sample in samples])


def batch_of(samples: list[Any]) -> Any:
    ids, pixels, labels = zip(*samples, strict=True)
    return torch.tensor(ids), torch.stack(pixels), torch.tensor(labels)


def _of_stream(samples: Any, **options: Any) -> Any:
    return DataLoader(samples, batch_size=BATCH, collate_fn=batch_of, **options)


def read_files(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return _by_index(ib, Files(folder), StatefulDataLoader, snapshot_every_n_steps=1, **options)


def read_webdataset(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    import webdataset

    shards = sorted(map(str, folder.glob("*.tar")))
    raw = webdataset.WebDataset(
        shards, shardshuffle=100, seed=1, nodesplitter=webdataset.split_by_node
    ).compose(ib.filter(id_of="__key__"))
    return _of_stream(raw.shuffle(60).map(decode), **options)


def read_mosaicml_by_index(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    from streaming import StreamingDataset

    return _by_index(ib, StreamingDataset(local=str(folder), batch_size=BATCH), **options)


def read_mosaicml_as_stream(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    from streaming import StreamingDataset

    raw = StreamingDataset(local=str(folder), batch_size=BATCH, shuffle=True)
    return _of_stream(Mapped(decode, ib.filter(raw, "id")), **options)


def read_litdata_by_index(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    from litdata import StreamingDataset

    return _by_index(ib, StreamingDataset(str(folder)), **options)


def read_litdata_as_stream(ib: InfoBatch, folder: Path, **options: Any) -> Any:
    from litdata import StreamingDataset

    raw = StreamingDataset(str(folder), shuffle=True)
    return _of_stream(Mapped(decode, ib.filter(raw, "id")), **options)


#: Name, how it is written, how it is read, and whether the system's account sees its reading.
LOADERS: dict[str, tuple[Callable[[Path], None], Callable[..., Any], bool]] = {
    "StatefulDataLoader, a file a sample": (write_files, read_files, True),
    "MosaicML Streaming, by index": (write_mosaicml, read_mosaicml_by_index, True),
    "MosaicML Streaming, filtered stream": (write_mosaicml, read_mosaicml_as_stream, True),
    "LitData, by index": (write_litdata, read_litdata_by_index, False),
    "LitData, filtered stream": (write_litdata, read_litdata_as_stream, False),
    "WebDataset, filtered stream": (write_webdataset, read_webdataset, True),
}


# --- trained


class Training:
    """A linear model, trained with a run over the batches of a loader."""

    def __init__(self, ib: InfoBatch) -> None:
        torch.manual_seed(3)
        self.ib = ib
        self.model: torch.nn.Module = torch.nn.Linear(576, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        #: Of each sample its own last loss, as the loop saw it.
        self.last: dict[int, float] = {}

    def step(self, batch: Any) -> list[int]:
        ids, pixels, labels = batch
        losses = cross_entropy(self.model(pixels), labels, reduction="none")
        loss = self.ib.update(losses, ids)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.last.update(zip(ids.tolist(), losses.tolist(), strict=True))
        return list(ids.tolist())

    def epoch(self, loader: Any) -> list[int]:
        """Its samples, as they came."""
        return [id for batch in loader for id in self.step(batch)]

    def accuracy(self) -> float:
        samples = [decode(picture(index)) for index in range(N)]
        pixels, labels = torch.stack([s[1] for s in samples]), torch.tensor([s[2] for s in samples])
        with torch.no_grad():
            return float((self.model(pixels).argmax(1) == labels).float().mean())
