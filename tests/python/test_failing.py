"""A call that fails changes nothing and can be made again (rule 17), in the binding, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from loops import loss_of, losses_of, nothing_to_warn_of, observed

import infobatch
from infobatch import InfoBatch

SIZE, BATCH = 96, 16


class Failure(Exception):
    pass


def every_batch_fails_once(update: Callable[[list[int], bool], Any], ib: InfoBatch) -> None:
    """An epoch in which every update fails and is made again: its scores are its samples' own."""
    with nothing_to_warn_of():
        for ids in ib.batch_sampler(BATCH):
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
                update(ids, True)
            update(ids, False)
        assert ib.epoch == 1
        len(ib.sampler)
    assert observed(ib) == {i: loss_of(i, 0) for i in range(SIZE)}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "weighted_mean"])
def test_a_failed_update_of_a_list_can_be_made_again(reduction: str) -> None:
    ib = InfoBatch(SIZE, 8)

    def update(ids: list[int], fails: bool) -> Any:
        losses: Any = losses_of(ids, 0)
        return ib.update([*losses[:-1], "x"] if fails else losses, reduction=reduction)

    every_batch_fails_once(update, ib)


@pytest.mark.numpy
def test_a_failed_update_of_arrays_can_be_made_again() -> None:
    import numpy as np

    ib = InfoBatch(SIZE, 8)

    def update(ids: list[int], fails: bool) -> Any:
        losses = np.array(losses_of(ids, 0), np.float32)
        with np.errstate(all="raise"):
            # The weighted loss overflows: behind all checks, before anything is written.
            values = np.full(len(ids), 3e38, np.float64) * 1e300 if fails else losses
            return ib.update(np.float32(values) if fails else values)

    every_batch_fails_once(update, ib)


def failing(fault: str) -> Any:
    """Within, memory runs out in one operator of torch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Failing(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func._opname == fault:
                raise Failure(fault)
            return func(*args, **(kwargs or {}))

    return Failing()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("dtype", "by_ids", "fault"),
    # float32 goes to the engine as it is, anything else is copied or converted first.
    [("float32", False, "dot")]
    + [("float32", True, fault) for fault in ("empty_like", "div_", "dot")]
    + [("float64", False, fault) for fault in ("slice", "mul", "mean", "copy_", "detach")]
    + [("float64", True, fault) for fault in ("mul", "mean", "detach", "_to_copy")],
)
def test_a_failed_update_of_tensors_can_be_made_again(dtype: str, by_ids: bool, fault: str) -> None:
    import torch

    ib = InfoBatch(SIZE, 8)

    def update(ids: list[int], fails: bool) -> Any:
        losses = torch.tensor(losses_of(ids, 0), dtype=getattr(torch, dtype))
        numbers = torch.tensor(ids)
        if not fails:
            return ib.update(losses, numbers if by_ids else None)
        with failing(fault):
            return ib.update(losses, numbers if by_ids else None)

    every_batch_fails_once(update, ib)


@pytest.mark.torch
@pytest.mark.parametrize("fault", ["empty", "div", "split"])
def test_a_failure_while_weights_of_the_next_batches_are_made_leaves_them_to_the_next_try(fault: str) -> None:
    import torch

    ib = InfoBatch(SIZE, 8)
    for epoch in range(4):
        for at, ids in enumerate(ib.batch_sampler(BATCH)):
            own = ib.get_weights(torch.tensor(ids))
            losses = torch.tensor(losses_of(ids, epoch), requires_grad=True)
            if at == 0:  # when they are made
                with failing(fault), pytest.raises(Failure):
                    ib.update(losses)
            ib.update(losses).backward()
            assert losses.grad is not None
            assert torch.equal(losses.grad, own / len(ids))
    assert ib.get_pruned_count() > 0


@pytest.mark.torch
def test_a_transformed_update_is_refused_and_moves_nothing() -> None:
    import torch

    ib = InfoBatch(SIZE, 8)

    def update(ids: list[int], fails: bool) -> Any:
        losses = torch.tensor(losses_of(ids, 0))
        return torch.func.grad(lambda x: ib.update(x))(losses) if fails else ib.update(losses)

    every_batch_fails_once(update, ib)


@pytest.mark.torch
def test_scores_on_another_device_than_the_losses_are_refused() -> None:
    import torch

    for by_ids in (False, True):
        ib = InfoBatch(SIZE, 8)
        ids = next(iter(ib.batch_sampler(BATCH)))
        losses = torch.empty(BATCH, device="meta")
        numbers = torch.tensor(ids) if by_ids else None
        with pytest.raises(ValueError, match="scores must be on the device of the losses, meta, got cpu"):
            ib.update(losses, numbers, scores=torch.ones(BATCH))
        ib.update(torch.ones(BATCH), numbers)


@pytest.mark.torch
def test_losses_that_are_negated_views_keep_their_sign() -> None:
    import torch

    for by_ids in (False, True):
        ib = InfoBatch(SIZE, 8)
        for ids in ib.batch_sampler(BATCH):
            losses = torch._neg_view(torch.tensor([-loss_of(i, 0) for i in ids]))
            ib.update(losses, torch._neg_view(-torch.tensor(ids)) if by_ids else None)
        len(ib.sampler)
        assert observed(ib) == {i: loss_of(i, 0) for i in range(SIZE)}


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_mean_over_tokens_is_taken_in_float32(kind: str) -> None:
    import torch

    ib = InfoBatch(8, 8)
    ids = next(iter(ib.batch_sampler(8)))
    losses = torch.tensor([[1.0 + i / 8] * 3 + [0.001] for i in ids], dtype=getattr(torch, kind))
    ib.update(losses)
    len(ib.sampler)
    expected = losses.float().mean(1)
    assert [observed(ib)[i] for i in ids] == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.torch
def test_weighted_mean_of_token_losses_is_that_of_their_means() -> None:
    import torch

    ib = InfoBatch(200, 8, seed=1)
    for epoch in range(2):
        for ids in ib.batch_sampler(50):
            losses = torch.rand(len(ids), 5) + torch.tensor(ids)[:, None] / 100
            weights = ib.get_weights(torch.tensor(ids))
            found = ib.update(losses, reduction="weighted_mean")
            expected = (losses.mean(1) * weights).sum() / weights.sum()
            torch.testing.assert_close(found, expected)
        assert ib.epoch == epoch + 1


@pytest.mark.torch
def test_what_is_no_reduction_and_no_score_is_refused_for_tensors() -> None:
    import torch

    ib = InfoBatch(SIZE, 8)
    next(iter(ib.batch_sampler(BATCH)))
    losses = torch.ones(BATCH)
    with pytest.raises(ValueError, match="reduction must be one of"):
        ib.update(losses, reduction="avg")
    with pytest.raises(ValueError, match="scores must be one for each of 16 losses, got 15"):
        ib.update(losses, scores=torch.ones(15))
    with pytest.raises(ValueError, match=r"ids must be \[B\] integers"):
        ib.update(losses, "sum")
    with pytest.raises(ValueError, match=r"ids must be \[B\] integers"):
        ib.update(losses, torch.ones(BATCH, dtype=torch.complex64))
    ib.update(losses)


@pytest.mark.torch
def test_strided_losses_by_ids_are_scored_as_they_are() -> None:
    import torch

    ib = InfoBatch(SIZE, 8)
    for ids in ib.batch_sampler(BATCH):
        wide = torch.tensor([[loss_of(i, 0), -1.0] for i in ids])
        numbers = torch.tensor([[i, -1] for i in ids], dtype=torch.int32)
        ib.update(wide[:, 0], numbers[:, 0])
    len(ib.sampler)
    assert observed(ib) == {i: loss_of(i, 0) for i in range(SIZE)}


# --- threads


def test_threads_that_pull_and_update_get_what_is_theirs() -> None:
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ib = InfoBatch(20_000, 8, lookahead=True)
        batches: list[list[int]] = []
        done = threading.Event()

        def pull() -> None:
            for ids in ib.batch_sampler(10):
                batches.append(ids)
            done.set()

        thread = threading.Thread(target=pull)
        thread.start()
        step = 0
        while not (done.is_set() and step == len(batches)):
            if step < len(batches):
                ib.update(losses_of(batches[step], 0))
                step += 1
        thread.join()
        assert sorted(i for ids in batches for i in ids) == list(range(20_000))
        len(ib.sampler)
        assert observed(ib) == {i: loss_of(i, 0) for i in range(20_000)}
    finally:
        sys.setswitchinterval(before)


def test_a_thread_that_only_looks_disturbs_nothing() -> None:
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    stop = threading.Event()
    ib = InfoBatch(4000, 8)

    def look() -> None:
        while not stop.is_set():
            _ = ib.epoch, ib.progress, ib.statistics

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with nothing_to_warn_of():
            pulled: list[int] = []
            for index in ib.sampler:
                pulled.append(index)
                if len(pulled) == 8:
                    ib.update(losses_of(pulled, 0))
                    pulled = []
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
    len(ib.sampler)
    assert observed(ib) == {i: loss_of(i, 0) for i in range(4000)}


# --- subclasses


class Doubling(InfoBatch):
    """A user's own: items are doubled."""

    def __init__(self, *arguments: Any, factor: int = 2, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.factor = factor

    def __getitem__(self, index: Any) -> Any:
        return self.factor * super().__getitem__(index)


@pytest.mark.torch
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_subclass_stays_one_in_workers(method: str) -> None:
    import torch
    from loops import Numbers
    from server import context
    from torch.utils.data import DataLoader, Dataset

    ib = Doubling(Numbers(64), 8, factor=3)
    assert isinstance(ib, Doubling)
    assert isinstance(ib, Dataset)
    assert isinstance(ib.scores, torch.Tensor)
    loader: Any = DataLoader(
        ib, 8, sampler=ib.sampler, num_workers=1, multiprocessing_context=context(method)
    )
    plan = list(ib.plan.ids)
    found = [int(x) for batch in loader for x in (batch, ib.update(torch.ones(8)))[0]]
    assert found == [3 * i for i in plan]


# --- numbers that do not fit


@pytest.mark.parametrize("wrong", [2**63, 2**64 + 3, 10**30, -(2**64)])
def test_integers_that_do_not_fit_are_refused_and_not_cut(wrong: int) -> None:
    ib = InfoBatch(64, 8)
    for call in (ib.set_epoch, ib.max_steps, ib.batch_sampler):
        with pytest.raises(ValueError, match="must be an integer"):
            call(wrong)
    with pytest.raises(ValueError, match="must be an integer"):
        InfoBatch(64, wrong)
    assert ib.epoch == 0


def test_a_path_with_a_null_character_is_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        InfoBatch(64, 8).save("x\0y")
    with pytest.raises(ValueError, match="key 'infobatch', got None"):
        InfoBatch(64, 8).load_state_dict(None)  # type: ignore[arg-type]


@pytest.mark.torch
def test_a_warning_points_at_the_program_also_behind_a_loader() -> None:
    from loops import Numbers
    from torch.utils.data import DataLoader

    ib = InfoBatch(Numbers(64), 8)
    loader: Any = DataLoader(ib, 8, sampler=ib.sampler)
    for _ in loader:
        pass
    with pytest.warns(infobatch.UpdateForgottenWarning) as caught:
        next(iter(loader))
    assert caught[0].filename == __file__
