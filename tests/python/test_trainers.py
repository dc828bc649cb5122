"""What trainers ask of a run's samplers and schedulers, without a trainer: tests/trainers has those."""

from __future__ import annotations

from typing import Any

import pytest

from infobatch import InfoBatch

try:
    import torch
    from torch.utils.data import DataLoader
except ImportError:  # every test here is skipped then
    pass

pytestmark = pytest.mark.torch


def trained(epochs: int, more: int = 0, n: int = 40) -> InfoBatch:
    """A run behind so many epochs, and `more` samples of the next one."""
    ib = InfoBatch(n, num_epochs=8, seed=4)
    for epoch in range(epochs):
        ib.set_epoch(epoch)
        for ids in ib.batch_sampler(5):
            ib.update(torch.tensor([float(i) for i in ids]))
    if more:
        ib.set_epoch(epochs)
        ids = next(iter(ib.batch_sampler(more)))
        ib.update(torch.tensor([float(i) for i in ids]))
    return ib


def test_an_epoch_that_is_set_while_workers_fetch_it_goes_on() -> None:
    """Lightning makes the iterator of an epoch, and then sets the epoch."""
    ib = InfoBatch(list(range(40)), num_epochs=8, seed=4)
    loader = DataLoader(ib, batch_size=5, sampler=ib.sampler, num_workers=2)
    seen: list[int] = []
    for epoch in range(3):
        iterator = iter(loader)
        ib.sampler.set_epoch(epoch)
        for batch in iterator:
            seen += batch.tolist()
            ib.update(batch.float())
        assert ib.statistics.epoch == epoch
    expected = InfoBatch(40, num_epochs=8, seed=4)
    for _ in range(3):
        for ids in expected.batch_sampler(5):
            assert seen[: len(ids)] == ids
            del seen[: len(ids)]
            expected.update(torch.tensor(ids).float())
    assert seen == []


def test_an_epoch_that_is_set_again_begins_anew_with_the_next_iteration() -> None:
    ib = InfoBatch(6, num_epochs=8, seed=4)
    first = iter(ib.sampler)
    ids = [next(first) for _ in range(6)]  # all of it was fetched
    ib.set_epoch(0)
    assert list(ib.sampler) == ids  # without a warning: nothing was lost
    ib.update(torch.tensor([float(i) for i in ids]))
    assert len(list(ib.sampler)) < 6
    assert ib.epoch == 1


def test_an_epoch_that_is_set_again_behind_a_loss_begins_anew_at_once() -> None:
    ib = InfoBatch(6, num_epochs=8, seed=4)
    first = iter(ib.batch_sampler(3))
    next(first)
    ib.update(torch.ones(3))
    ib.set_epoch(0)
    with pytest.raises(RuntimeError, match="set_epoch"):
        next(first)
    assert len(list(ib.sampler)) == 6


def test_an_epoch_that_was_set_again_and_trained_is_followed_by_the_next() -> None:
    ib = InfoBatch(6, num_epochs=8, seed=4)
    for index, ids in enumerate(ib.batch_sampler(3)):
        if index == 0:
            ib.set_epoch(0)
        ib.update(torch.tensor([float(i) for i in ids]))
    assert ib.epoch == 1
    next(iter(ib.sampler))
    assert ib.statistics.epoch == 1


@pytest.mark.parametrize(("epochs", "more"), [(3, 10), (3, 0)])
def test_a_trainer_that_counts_anew_behind_a_load_is_refused(epochs: int, more: int) -> None:
    ib = InfoBatch(40, num_epochs=8, seed=4)
    ib.load_state_dict(trained(epochs, more).state_dict())
    before = ib.epoch, ib.statistics
    for sampler in (ib.sampler, ib.batch_sampler(5)):
        with pytest.raises(ValueError, match=r"must not lie before epoch [23], which was loaded, got 0"):
            sampler.set_epoch(0)
    assert (ib.epoch, ib.statistics) == before
    ib.sampler.set_epoch(3)
    ib.set_epoch(0)  # who means it says it to the run
    assert ib.epoch == 0


def test_setting_a_loaded_epoch_that_was_over_changes_nothing() -> None:
    ib = InfoBatch(40, num_epochs=8, seed=4)
    ib.load_state_dict(trained(3).state_dict())
    assert ib.epoch == 3
    ib.sampler.set_epoch(2)
    assert ib.epoch == 3
    goes_on = trained(3)
    assert list(ib.sampler) == list(goes_on.sampler)


def test_a_batch_sampler_that_a_trainer_rebuilds_is_refused() -> None:
    kind = type(InfoBatch(6, num_epochs=8).batch_sampler(2))
    dealt: Any = torch.utils.data.DistributedSampler([1, 2], num_replicas=2, rank=0)
    with pytest.raises(TypeError, match=r"must be an InfoBatch, got DistributedSampler.*sampler=ib\.sampler"):
        kind(dealt, batch_size=2, drop_last=False)


def test_the_schedulers_are_those_of_torch() -> None:
    """Lightning takes no others; Transformers asks for last_epoch."""
    from infobatch import FullRunScheduler, progress_lr

    ib = InfoBatch(40, num_epochs=4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=31)
    whole = FullRunScheduler(linear, ib, 32)
    for schedule in (whole, progress_lr(optimizer, ib, lambda progress: 1.0)):
        assert isinstance(schedule, torch.optim.lr_scheduler.LRScheduler)
        assert schedule.optimizer is optimizer
        assert schedule.base_lrs == [0.1]
    for ids in ib.batch_sampler(5):
        ib.update(torch.tensor([1.0] * len(ids)))
        optimizer.step()
        whole.step()
    assert whole.last_epoch == 8
    saved = whole.state_dict()
    assert saved["last_epoch"] == 8
