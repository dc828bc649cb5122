"""The defects of the official package, as docs/rules.md numbers them: this package has none of them. Of those
that show with several ranks, what one process can show."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from loops import (
    Numbers,
    Record,
    epoch_of_lists,
    loss_of,
    losses_of,
    nothing_to_warn_of,
    observed,
    weights_of,
    whatever_it_warns_of,
)

from infobatch import InfoBatch

try:
    import torch
    from torch.utils.data import BatchSampler, DataLoader
except ImportError:  # the tests that need it are skipped then
    pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def train(ib: InfoBatch, loader: Any, epoch: int, record: Record | None = None) -> int:
    """One epoch over a loader of `Numbers`; returns the steps."""
    steps = 0
    for ids in loader:
        losses = (8 * ids + epoch) / 4096
        ib.update(losses)
        if record is not None:
            record.saw(ids.tolist(), losses.tolist())
        steps += 1
    return steps


@pytest.mark.torch
@pytest.mark.parametrize("drop_last", [False, True])
def test_defect_1_an_epoch_ends_and_prunes_although_the_sampler_is_iterated_twice(drop_last: bool) -> None:
    ib = InfoBatch(Numbers(1000), 8, seed=1)
    loader = DataLoader(ib, 64, sampler=ib.sampler, drop_last=drop_last)
    for epoch in range(8):
        rows, length = len(ib.sampler), len(loader)
        assert train(ib, loader, epoch) == length == (rows // 64 if drop_last else -(-rows // 64))
        assert (rows == 1000) == (epoch in (0, 7))
    assert ib.get_pruned_count() > 1000


@pytest.mark.torch
def test_defect_1_torchs_batch_sampler_over_the_sampler_gives_the_plan() -> None:
    ib = InfoBatch(100, 8, seed=1)
    batches = BatchSampler(ib.sampler, 10, drop_last=False)
    assert [i for ids in batches for i in ids] == list(ib.plan.ids)
    iterator = iter(ib.sampler)
    assert iter(iterator) is iterator
    with whatever_it_warns_of():
        assert list(iter(iterator)) == list(ib.plan.ids)


@pytest.mark.parametrize("epochs", [10, 30, 90, 100, 300])
def test_defect_2_annealed_epochs_train_with_weights_of_exactly_1(epochs: int) -> None:
    ib = InfoBatch(30, epochs, seed=1)
    pruned = math.floor(0.875 * epochs)
    for epoch in range(epochs):
        assert ib.epoch == epoch
        seen, weights = [], ib.plan.weights
        for ids in ib.batch_sampler(8):
            seen += ids
            mean = ib.update([1.0 + i / 64 for i in ids], scores=losses_of(ids, 0))
            if epoch >= pruned:
                assert mean == sum(1.0 + i / 64 for i in ids) / len(ids)
        if epoch >= pruned or epoch == 0:
            assert sorted(seen) == list(range(30))
            assert set(weights) == {1.0}
        else:
            assert len(seen) < 30
            assert set(weights) == {1.0, 2.0}


def one_ahead(loader: Iterable[Any]) -> Iterator[Any]:
    """What Accelerate does: a batch is fetched before the last one is trained with."""
    iterator = iter(loader)
    current = next(iterator)
    for following in iterator:
        yield current
        current = following
    yield current


@pytest.mark.torch
@pytest.mark.parametrize("by", ["sampler", "batch_sampler"])
def test_defect_3_a_loader_that_looks_ahead_records_every_score_where_it_belongs(by: str) -> None:
    ib = InfoBatch(Numbers(64), 8, seed=1)
    if by == "sampler":
        loader = DataLoader(ib, 8, sampler=ib.sampler)
    else:
        loader = DataLoader(ib, batch_sampler=ib.batch_sampler(8))
    record = Record()
    with nothing_to_warn_of():
        for epoch in range(4):
            train(ib, one_ahead(one_ahead(loader)), epoch, record)
            record.check(ib)


class Fetched(Numbers):
    def __getitems__(self, indices: list[int]) -> list[int]:
        return [index + 100_000 for index in indices]  # a sample is not its id


def test_defect_4_attributes_do_not_recurse() -> None:
    unmade = InfoBatch.__new__(InfoBatch)
    for name in ("dataset", "_run", "anything", "__getstate__x", "__deepcopy__x"):
        with pytest.raises(AttributeError):
            getattr(unmade, name)
    ib = InfoBatch(Numbers(10), 8)
    for make in (pickle.loads(pickle.dumps(ib)), copy.copy(ib), copy.deepcopy(ib)):
        assert (make[3], len(make), make.note) == (3, 10, Numbers.note)
    assert inspect.ismethod(InfoBatch(Fetched(10), 8).__getitems__)


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 1])
def test_defect_4_samples_of_a_data_set_with_getitems_are_not_taken_for_ids(workers: int) -> None:
    ib = InfoBatch(Fetched(100), 8, seed=1)
    loader = DataLoader(ib, 10, sampler=ib.sampler, num_workers=workers, multiprocessing_context=None)
    for pictures in loader:
        assert (pictures >= 100_000).all()
        ib.update((8 * (pictures - 100_000)) / 4096)
    len(ib.sampler)
    assert observed(ib) == {i: loss_of(i, 0) for i in range(100)}


@pytest.mark.torch
def test_defect_5_the_loaders_length_is_that_of_the_epoch_that_comes() -> None:
    ib = InfoBatch(Numbers(1000), 8, seed=1)
    loader = DataLoader(ib, 64, sampler=ib.sampler)
    lengths = []
    for epoch in range(8):
        lengths.append(len(loader))
        assert train(ib, loader, epoch) == lengths[-1]
    assert lengths[0] == lengths[7] == 16
    assert max(lengths[1:7]) < 16
    assert sum(lengths) <= ib.max_steps(64) == 128


@pytest.mark.torch
@pytest.mark.parametrize("name", ["exp", "sqrt", "sigmoid", "tanh", "softplus", "square"])
def test_defect_6_the_losses_are_left_alone_and_gradients_flow_through_any_of_them(name: str) -> None:
    function: Callable[[Any], Any] = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    ib = InfoBatch(64, 8, prune_ratio=0.75, seed=1)
    record = Record()
    for epoch in range(2):
        weights = weights_of(ib.plan)
        assert epoch == 0 or set(weights.values()) == {1.0, 4.0}
        for ids in ib.batch_sampler(16):
            leaf = (torch.tensor(ids, dtype=torch.float32) / 64 + 0.5).requires_grad_()
            losses = function(leaf)
            before = losses.detach().clone()
            loss = ib.update(losses)
            loss.backward()
            assert torch.equal(losses, before)  # what a program logs
            found = leaf.grad
            leaf.grad = None
            (function(leaf) * torch.tensor([weights[i] for i in ids])).mean().backward()
            assert torch.allclose(found, leaf.grad)
            record.saw(ids, before.tolist())
    record.check(ib)  # the scores are raw


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("float16", 2049),
        ("bfloat16", 257),
        *(
            pytest.param(kind, 2**24 + 1, marks=pytest.mark.one_environment("as with 16 bits, at more cost"))
            for kind in ("float32", "float64")
        ),
    ],
)
def test_defect_7_ids_that_no_loss_dtype_can_hold_are_told_apart(kind: str, first: int) -> None:
    size = first + 7
    ib = InfoBatch(size, 8, threads=2)
    next(iter(ib.batch_sampler(1)))
    ids = torch.arange(first - 8, first + 7)
    losses = torch.arange(1, 16).to(getattr(torch, kind))
    ib.update(losses, ids)
    ib.set_epoch(1)
    found = ib.scores
    assert found[first - 8 : first + 7].tolist() == list(range(1, 16))
    assert found[: first - 8].isnan().all()


def test_defect_8_one_nan_does_not_switch_pruning_off_and_one_inf_makes_nobody_a_candidate() -> None:
    for value in (math.nan, math.inf, -math.inf):
        ib = InfoBatch(1000, 8, seed=1)
        for ids in ib.batch_sampler(100):
            ib.update([value if i == 500 else losses_of([i], 0)[0] for i in ids])
        with whatever_it_warns_of():
            plan = weights_of(ib.plan)
        assert 700 < len(plan) < 800
        assert plan[500] == 1.0
        mean = sum(losses_of((i for i in range(1000) if i != 500), 0)) / 999
        for index in range(1000):
            if loss_of(index, 0) >= mean and index != 500:
                assert plan[index] == 1.0
            elif index in plan and index != 500:
                assert plan[index] == 2.0


def test_defect_8_no_number_of_equal_losses_is_below_its_own_mean() -> None:
    for size in (3, 7, 10, 49, 1000, 3001):
        for loss in (0.1, 0.3, 3.3, 1e-30, 3e38, -0.7):
            ib = InfoBatch(size, 8, seed=1)
            for ids in ib.batch_sampler(256):
                ib.update([loss] * len(ids))
            assert len(ib.sampler) == size


@pytest.mark.numpy
def test_defect_9_seeds_prune_differently_and_numpys_generator_is_left_alone() -> None:
    import numpy as np

    def pruned(seed: int, ours: int) -> set[int]:
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        ib = InfoBatch(1000, 8, seed=ours)
        epoch_of_lists(ib, 100)
        left_out = set(range(1000)) - set(ib.plan.ids)
        epoch_of_lists(ib, 100)
        assert (np.random.get_state()[1] == before).all()
        return left_out

    assert pruned(1, 5) == pruned(2, 5)
    assert len(pruned(1, 5) ^ pruned(1, 6)) > 100


def test_defect_10_looking_at_samplers_and_peeking_does_not_advance_the_epoch() -> None:
    ib = InfoBatch(100, 8, seed=1)
    first = list(ib.plan.ids)
    for _ in range(5):
        assert ib.sampler is ib.sampler
        assert next(iter(ib.sampler)) == first[0]
        assert next(iter(ib.batch_sampler(3))) == first[:3]
        assert (len(ib.sampler), len(ib.batch_sampler(3)), ib.epoch) == (100, 34, 0)
        hasattr(ib, "sampler"), inspect.getmembers(ib), repr(ib.sampler)
    assert epoch_of_lists(ib, 10) == first


def test_defect_11_scores_epoch_and_position_are_in_a_checkpoint() -> None:
    ib = InfoBatch(100, 8, seed=1)
    epoch_of_lists(ib, 10)
    batches = iter(ib.batch_sampler(10))
    for _ in range(3):
        ids = next(batches)
        ib.update(losses_of(ids, 1))
    other = InfoBatch(100, 8, seed=1)
    report = other.load_state_dict(ib.state_dict())
    assert (report.epoch, report.position) == (1, 30)
    assert observed(other) == observed(ib)
    for ids in other.batch_sampler(10):
        assert ids == next(batches)
        assert other.update(losses_of(ids, 1)) == ib.update(losses_of(ids, 1))
    assert next(batches, None) is None


@pytest.mark.torch
def test_defect_12_what_is_not_one_loss_a_sample_works_or_is_refused_in_words() -> None:
    ib = InfoBatch(96, 8, seed=1)
    batches = iter(ib.batch_sampler(24))
    record = Record()

    def step(parts: int, *shape: int) -> None:
        ids = torch.tensor(next(batches))
        for part in ids.chunk(parts):
            losses = ((8 * part) / 4096).view(-1, *[1] * len(shape)).expand(-1, *shape)
            ib.update(losses)
            record.saw(part.tolist(), losses.flatten(1).mean(1).tolist() if shape else losses.tolist())

    step(4)  # micro-batches
    step(4, 3, 5)  # [B, H, W]
    ids = torch.tensor(next(batches))
    with pytest.raises(ValueError, match=r"reduction='none'.*observe.*scale_gradient"):
        ib.update(torch.tensor(1.0))
    for part in ids.chunk(4):
        first = ib.update(part * 8 / 4096, reduction="none")
        second = part * 2.0 * ib.get_weights(part)  # a second loss of the same samples
        assert torch.equal(first + second, part * 8 / 4096 + part * 2.0)
        record.saw(part.tolist(), (part * 8 / 4096).tolist())
    with pytest.raises(RuntimeError, match=r"a second update on one batch.*update\(losses, ids\)"):
        ib.update(torch.ones(6))
    step(4)
    len(ib.sampler)
    assert observed(ib) == pytest.approx(record.last)


@pytest.mark.torch
def test_defect_13_a_step_asks_nothing_of_the_host_and_of_no_other_rank() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    # On the CPU: item(), bool(), nonzero(), masks and copies between devices show as these operations.
    ib = InfoBatch(96, 8, seed=1)
    batches = ib.batch_sampler(24)
    for epoch in range(2):
        for ids in batches:
            losses = (torch.tensor(ids) / 96).requires_grad_()
            with Listening():
                ib.update(losses)
        assert ib.epoch == epoch + 1
    assert len(seen) >= 8  # it does listen: one and more a step
    refused = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_to_copy", "index", "c10d", "masked")
    assert not [name for name in seen if name.split(".")[1] in refused or "c10d" in name]
    assert len(set(seen)) <= 10, set(seen)


@pytest.mark.torch
def test_defect_13_batches_of_any_size_the_tail_included_are_recorded() -> None:
    for size, batch in ((100, 7), (5, 100), (1, 1), (101, 100)):
        with whatever_it_warns_of():
            ib = InfoBatch(Numbers(size), 8, seed=1)
            record = Record()
            for epoch in range(2):
                train(ib, DataLoader(ib, batch, sampler=ib.sampler), epoch, record)
            record.check(ib)
            assert len(observed(ib)) == size


def test_defect_14_nobody_is_drawn_twice_and_the_selection_is_not_an_epoch_stale() -> None:
    ib = InfoBatch(200, 8, seed=1)
    for epoch in range(6):
        scores = observed(ib) if len(ib.sampler) else {}
        plan = weights_of(ib.plan)
        assert len(plan) == len(ib.plan)
        if epoch:
            mean = sum(scores.values()) / 200
            assert {i for i in range(200) if i not in plan or plan[i] == 2.0} == {
                i for i, score in scores.items() if score < mean
            }
        for ids in ib.batch_sampler(20):
            # Who was good is bad in the next epoch.
            ib.update([float(i if epoch % 2 else 200 - i) for i in ids])
