"""What a pruned epoch costs beside a full one, for each loader: the table of docs/streaming.md.

    .venv-streaming/bin/python tests/trainers/streaming/figures.py

All in this process, without workers. A training of 8 epochs, of which 6 are pruned; bytes are those that the
process has read, by the system's account. LitData maps its chunks into memory: there they are the bytes of
the pictures that were decoded, for the others are not touched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pictures import COUNTER, EPOCHS, LOADERS, N, Training

from infobatch import InfoBatch


def measure(name: str, folder: Path) -> tuple[int, int, float, float, float]:
    """Bytes and pictures of a full epoch, and of a pruned one, on average: kept samples, bytes, pictures."""
    write, read, is_read = LOADERS[name]
    write(folder)
    ib = InfoBatch(N, EPOCHS, seed=1)
    training, loader = Training(ib), read(ib, folder)
    costs: list[tuple[int, int, int]] = []
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)
        planned = len(ib.plan)
        COUNTER.start()
        came = training.epoch(loader)
        costs.append((planned, COUNTER.read if is_read else COUNTER.touched, COUNTER.decoded))
        assert len(came) == planned
    full, pruned = costs[-1], costs[1:7]
    kept, read_bytes, decoded = (sum(column) / len(pruned) for column in zip(*pruned, strict=True))
    return full[1], full[2], kept / N, read_bytes / full[1], decoded / full[2]


def row(name: str, full_bytes: int, full_decoded: int, kept: float, read: float, decoded: float) -> str:
    cells = (name, f"{full_bytes:,}", f"{full_decoded}", f"{kept:.1%}", f"{read:.1%}", f"{decoded:.1%}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(LOADERS):
            print(row(name, *measure(name, Path(temporary) / str(number))))
