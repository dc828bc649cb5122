"""torchdata's StatefulDataLoader, with workers: stopped in the middle of an epoch, and gone on with.

One learns: the loader's state holds only where it stands, the run's state all else. Both are saved at the
same step (snapshot_every_n_steps=1), and the run's is loaded before the loader is iterated.
"""

import torch
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from infobatch import InfoBatch

EPOCHS = 4


def make() -> tuple[InfoBatch, StatefulDataLoader]:
    ids = torch.arange(1000)
    ib = InfoBatch(TensorDataset(ids, (ids % 17).float()), EPOCHS, seed=3)
    loader = StatefulDataLoader(
        ib, batch_sampler=ib.batch_sampler(64), num_workers=2, snapshot_every_n_steps=1
    )
    return ib, loader


def train(ib: InfoBatch, loader: StatefulDataLoader, steps: int, seen: list[list[int]]) -> None:
    while ib.epoch < EPOCHS:
        for ids, losses in loader:
            ib.update(losses)
            seen.append(ids.tolist())
            steps -= 1
            if steps == 0:
                return


if __name__ == "__main__":  # the workers may import this file
    expected: list[list[int]] = []
    train(*make(), steps=10**6, seen=expected)

    seen: list[list[int]] = []
    ib, loader = make()
    train(ib, loader, steps=30, seen=seen)
    checkpoint = {"ib": ib.state_dict(), "loader": loader.state_dict()}  # the process may end here

    ib, loader = make()
    report = ib.load_state_dict(checkpoint["ib"])
    loader.load_state_dict(checkpoint["loader"])
    print(f"goes on in epoch {report.epoch}, {report.position} samples of it are done")
    train(ib, loader, steps=10**6, seen=seen)
    print(f"{len(seen)} batches, {'the same as' if seen == expected else 'NOT those'} without the stop")
