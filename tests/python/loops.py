"""What several files of these tests share: data sets whose losses tell on whose they are, and loops over
them. Needs neither torch nor NumPy."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import infobatch
from infobatch import InfoBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def loss_of(index: int, epoch: int) -> float:
    """A loss that no other sample and no other of eight epochs has, and that a float32 holds exactly."""
    return (8 * index + epoch) / 4096


def losses_of(ids: Iterable[int], epoch: int) -> list[float]:
    return [loss_of(index, epoch) for index in ids]


class Numbers:
    """Samples that are their own index."""

    note = "an attribute of the data set within"

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


class Record:
    """What the scores have to be: of each sample its own last loss, as the loop itself saw it."""

    def __init__(self) -> None:
        self.last: dict[int, float] = {}

    def saw(self, ids: Iterable[int], losses: Iterable[float]) -> None:
        self.last.update(zip(ids, losses, strict=True))

    def check(self, ib: InfoBatch) -> None:
        len(ib.sampler)  # with a look at the next epoch the losses of the last one enter
        assert observed(ib) == self.last


def observed(ib: InfoBatch) -> dict[int, float]:
    """The scores of the samples that have one."""
    scores = [float(score) for score in ib.scores]
    return {index: score for index, score in enumerate(scores) if not math.isnan(score)}


def epoch_of_lists(ib: InfoBatch, batch_size: int, record: Record | None = None) -> list[int]:
    """One epoch of a loop without a framework; returns the samples in the order of delivery."""
    seen: list[int] = []
    epoch = ib.epoch
    for ids in ib.batch_sampler(batch_size):
        losses = losses_of(ids, epoch)
        ib.update(losses)
        if record is not None:
            record.saw(ids, losses)
        seen += ids
    return seen


def batches_of_rows(rows: Iterable[int], batch_size: int, drop_last: bool = False) -> Iterator[list[int]]:
    """Batches as a loader makes them that takes one index after the other."""
    taken: list[int] = []
    for index in rows:
        taken.append(index)
        if len(taken) == batch_size:
            yield taken
            taken = []
    if taken and not drop_last:
        yield taken


@contextmanager
def nothing_to_warn_of() -> Iterator[None]:
    """A warning of the package is an error inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", infobatch.InfoBatchWarning)
        yield


@contextmanager
def whatever_it_warns_of() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", infobatch.InfoBatchWarning)
        yield


def weights_of(plan: Any) -> dict[int, float]:
    """Sample -> weight of a plan."""
    return dict(zip(plan.ids, plan.weights, strict=True))
