"""Losses on another device than the CPU: what a step does there, and that all comes out as on the CPU.

Run by test_devices.py in a process of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import infobatch
from infobatch import InfoBatch

torch: Any = pytest.importorskip("torch")

from devices import MISTAKES, NAME, Device, OnDevice, RefuseWaiting, Waits, device  # noqa: E402

pytestmark = pytest.mark.torch

SIZE, EPOCHS, BATCH = 96, 6, 16

#: Operators that a step may start: copy, mul and mean; by ids those of the tables, too.
LAUNCHES = {False: 3, True: 11}


@pytest.fixture
def gpu() -> Iterator[Device]:
    try:
        mode = device()
    except ImportError:
        pytest.skip(f"torch {torch.__version__} has no devices in Python")
    with mode:
        yield mode


def loss_of(index: int, epoch: int) -> float:
    return index / 1000 + 0.01 * epoch


def host_losses(ids: list[int], epoch: int) -> Any:
    return torch.tensor([loss_of(i, epoch) for i in ids], dtype=torch.float32)


Log = list[tuple[int, tuple[int, ...], float, float]]


def train(
    ib: InfoBatch, by_ids: bool, mode: Device | None, epochs: int = EPOCHS, stop: int | None = None
) -> Log:
    """Trains one weight, and keeps epoch, ids, loss and gradient of each step."""
    on = (lambda tensor: tensor.to(NAME)) if mode else (lambda tensor: tensor)
    log: Log = []
    while ib.epoch < epochs:
        epoch = ib.epoch
        batches = iter(ib.batch_sampler(BATCH))
        first = True
        while True:
            if mode:
                with mode.waiting():
                    ids = next(batches, None)
            else:
                ids = next(batches, None)
            if ids is None:
                break
            weight = on(torch.ones(())).requires_grad_()
            raw, numbers = on(host_losses(ids, epoch)), on(torch.tensor(ids))
            losses = raw * weight
            before = mode.launches if mode else 0
            loss = ib.update(losses, numbers) if by_ids else ib.update(losses)
            if mode:
                # The first step of an epoch brings its weights, or makes the tables, besides.
                assert first or mode.launches - before <= LAUNCHES[by_ids]
            first = False
            loss.backward()
            values = [t.inner if isinstance(t, OnDevice) else t for t in (loss.detach(), weight.grad)]
            log.append((epoch, tuple(ids), *(float(value) for value in values)))
            if len(log) == stop:
                return log
        if mode:
            with mode.waiting():
                ib.epoch  # noqa: B018 - the losses come home
    return log


def scores(ib: InfoBatch) -> list[float]:
    len(ib.sampler)
    return [float(score) for score in ib.scores]


# --- tensors without values: first, since a device that is registered gets in their way


def require_fake_cuda() -> None:
    """Skips where torch by itself cannot move a tensor without values to a GPU that is not there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            torch.ones(2).to("cuda")
    except RuntimeError as error:
        pytest.skip(f"torch {torch.__version__} needs a driver: {str(error).splitlines()[0]}")


def fake_step(by_ids: bool) -> None:
    """Two steps on a GPU that is not there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    ib = InfoBatch(SIZE, EPOCHS)
    batches = iter(ib.batch_sampler(BATCH))
    with FakeTensorMode(allow_non_fake_inputs=True), RefuseWaiting():
        for _ in range(2):
            count = len(next(batches))
            losses = torch.empty(count, device="cuda")
            ids = torch.empty(count, dtype=torch.int64, device="cuda")
            loss = ib.update(losses, ids) if by_ids else ib.update(losses)
            assert loss.device.type == "cuda"
            assert loss.shape == ()
            assert loss.dtype == torch.float32


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_a_step_on_a_fake_cuda_device_neither_waits_nor_copies(by_ids: bool) -> None:
    require_fake_cuda()
    fake_step(by_ids)


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_a_copy_on_a_fake_cuda_device_would_be_noticed(by_ids: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from infobatch._tensors import TensorStep

    record: Callable[..., Any] = TensorStep._per_sample

    def slow(self: TensorStep, losses: Any, *arguments: Any) -> Any:
        losses.cpu()
        return record(self, losses, *arguments)

    monkeypatch.setattr(TensorStep, "_per_sample", slow)
    with pytest.raises(Waits):
        fake_step(by_ids)


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_on_the_meta_device_a_run_goes_through_and_nothing_is_observed(by_ids: bool) -> None:
    ib = InfoBatch(SIZE, 3)
    for _ in range(2):
        for ids in ib.batch_sampler(BATCH):
            losses = torch.empty(len(ids), 2, device="meta", requires_grad=True)
            numbers = torch.empty(len(ids), dtype=torch.int64, device="meta")
            loss = ib.update(losses, numbers) if by_ids else ib.update(losses)
            assert loss.device.type == "meta"
            loss.backward()
            assert losses.grad.shape == losses.shape
    assert all(score != score for score in scores(ib))


# --- an emulated device


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_a_run_on_a_device_equals_the_run_on_the_cpu(gpu: Device, by_ids: bool) -> None:
    home = InfoBatch(SIZE, EPOCHS, seed=3)
    expected = train(home, by_ids, None)
    away = InfoBatch(SIZE, EPOCHS, seed=3)
    # The loss and its gradient by the one weight are sums of a batch, each added up in its own order.
    found = train(away, by_ids, gpu)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row[2:] == pytest.approx(other[2:], rel=1e-6)
    assert scores(away) == scores(home)
    assert away.get_pruned_count() == home.get_pruned_count() > 0


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_losses_come_home_in_one_copy_an_epoch(gpu: Device, by_ids: bool) -> None:
    ib = InfoBatch(SIZE, EPOCHS, seed=3)
    gpu.to_host.clear()
    train(ib, by_ids, gpu)
    assert len(gpu.to_host) == EPOCHS
    # By ids the table comes: one number a sample, and one each for ids below and beyond.
    assert max(gpu.to_host) == (SIZE + 2 if by_ids else SIZE)


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_a_step_that_waits_would_be_noticed(
    gpu: Device, by_ids: bool, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infobatch._tensors import TensorStep

    record: Callable[..., Any] = TensorStep._per_sample

    def slow(self: TensorStep, losses: Any, *arguments: Any) -> Any:
        MISTAKES[mistake](losses)
        return record(self, losses, *arguments)

    monkeypatch.setattr(TensorStep, "_per_sample", slow)
    with pytest.raises(Waits):
        train(InfoBatch(SIZE, EPOCHS), by_ids, gpu)


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_stopped_in_the_midst_on_a_device_equals_never_stopped(gpu: Device, by_ids: bool) -> None:
    whole = train(InfoBatch(SIZE, EPOCHS, seed=5), by_ids, gpu)
    for stop in (1, 3, 7, len(whole) - 2):
        first = InfoBatch(SIZE, EPOCHS, seed=5)
        log = train(first, by_ids, gpu, stop=stop)
        file = io.BytesIO()
        with gpu.waiting():
            torch.save(first.state_dict(), file)
        file.seek(0)
        second = InfoBatch(SIZE, EPOCHS, seed=5)
        second.load_state_dict(torch.load(file, weights_only=True))
        assert log + train(second, by_ids, gpu) == whole


def test_of_a_repeated_id_the_last_score_wins_and_every_row_is_weighted(gpu: Device) -> None:
    batches = ([3, 1, 3, 0, 1, 3], [2, 3, 0, 2], [7, 6, 5, 4, 1])
    values = [torch.rand(len(ids)) - 0.5 for ids in batches]  # of both signs
    runs = {on: InfoBatch(8, EPOCHS, seed=1) for on in ("cpu", NAME)}
    for ids, losses in zip(batches, values, strict=True):
        found = {
            on: ib.update(losses.to(on), torch.tensor(ids).to(on), reduction="none")
            for on, ib in runs.items()
        }
        assert torch.equal(found["cpu"], found[NAME].inner)
    last = {
        i: float(x) for ids, xs in zip(batches, values, strict=True) for i, x in zip(ids, xs, strict=True)
    }
    with gpu.waiting():
        for ib in runs.values():
            ib.set_epoch(1)
            assert scores(ib) == [last[i] for i in range(8)]


def test_ids_outside_the_plan_write_nothing_and_the_end_of_the_epoch_says_so(gpu: Device) -> None:
    for wrong in (-5, 8, 2**40):
        ib = InfoBatch(8, EPOCHS, seed=1)
        batches = iter(ib.batch_sampler(8))
        ids = [*next(batches), wrong]
        losses = torch.arange(9, dtype=torch.float32).to(NAME)
        weighted = ib.update(losses, torch.tensor(ids).to(NAME), reduction="none")
        assert weighted.inner.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
        with gpu.waiting():
            with pytest.raises(IndexError, match=r"InfoBatch.update: ids must be .* plan of epoch 0"):
                len(ib.sampler)
            assert sorted(scores(ib)) == list(range(8))
            assert ib.epoch == 1


def test_an_id_that_the_epoch_left_out_is_outside_its_plan(gpu: Device) -> None:
    ib = InfoBatch(200, EPOCHS, seed=1)
    for ids in ib.batch_sampler(50):
        ib.update(host_losses(ids, 0).to(NAME))
    with gpu.waiting():
        kept = set(ib.plan.ids)
        stranger = next(i for i in range(200) if i not in kept)
        before = scores(ib)
        batch = next(iter(ib.batch_sampler(50)))
        ib.update(torch.full((51,), 9.0).to(NAME), torch.tensor([*batch, stranger]).to(NAME))
        with pytest.raises(IndexError, match=rf"got {stranger}:"):
            ib.state_dict()
        assert scores(ib)[stranger] == before[stranger]


def test_order_and_ids_do_not_mix_in_an_epoch(gpu: Device) -> None:
    ib = InfoBatch(SIZE, EPOCHS)
    batches = iter(ib.batch_sampler(BATCH))
    ids = next(batches)
    ib.update(host_losses(ids, 0).to(NAME))
    with gpu.waiting(), pytest.raises(RuntimeError, match="ids"):
        ib.update(host_losses(ids, 0).to(NAME), torch.tensor(ids).to(NAME))
    ib = InfoBatch(SIZE, EPOCHS)
    batches = iter(ib.batch_sampler(BATCH))
    ids = next(batches)
    ib.update(host_losses(ids, 0).to(NAME), torch.tensor(ids).to(NAME))
    with gpu.waiting(), pytest.raises(RuntimeError, match="ids"):
        ib.update(host_losses(ids, 0).to(NAME))


def test_a_change_of_device_is_refused(gpu: Device) -> None:
    for by_ids in (False, True):
        ib = InfoBatch(SIZE, EPOCHS)
        batches = iter(ib.batch_sampler(BATCH))
        for on in (NAME, "cpu"):
            ids = next(batches)
            arguments = [host_losses(ids, 0).to(on)] + ([torch.tensor(ids).to(on)] if by_ids else [])
            if on == NAME:
                ib.update(*arguments)
            else:
                with pytest.raises(ValueError, match=rf"device of the run, {NAME}.*got cpu.*device="):
                    ib.update(*arguments)
    ib = InfoBatch(SIZE, EPOCHS, device=NAME)
    ids = next(iter(ib.batch_sampler(BATCH)))
    with pytest.raises(ValueError, match="device"):
        ib.update(host_losses(ids, 0))


def test_a_reduced_loss_on_a_device(gpu: Device) -> None:
    ib = InfoBatch(SIZE, EPOCHS)
    for ids in ib.batch_sampler(BATCH):
        outputs = torch.ones(len(ids), 3).to(NAME).requires_grad_()
        weights = ib.observe(host_losses(ids, 0).to(NAME))
        infobatch.scale_gradient(outputs, weights).sum().backward()
        assert outputs.grad.inner.eq(1).all()
    with gpu.waiting():
        assert scores(ib) == pytest.approx([loss_of(i, 0) for i in range(SIZE)])


def test_progress_moves_within_an_epoch_by_ids(gpu: Device) -> None:
    ib = InfoBatch(SIZE, EPOCHS)
    seen = []
    batches = iter(ib.batch_sampler(BATCH))
    for ids in batches:
        ib.update(host_losses(ids, 0).to(NAME), torch.tensor(ids).to(NAME))
        seen.append(ib.progress)
    assert seen == pytest.approx([(k + 1) / 6 / EPOCHS for k in range(6)])
    with gpu.waiting():
        assert ib.epoch == 1
    assert ib.progress == pytest.approx(1 / EPOCHS)


def test_discarding_an_epoch_forgets_what_is_on_the_device(gpu: Device) -> None:
    for by_ids in (False, True):
        ib = InfoBatch(SIZE, EPOCHS)
        for ids in ib.batch_sampler(BATCH):
            ib.update(*[host_losses(ids, 0).to(NAME)] + ([torch.tensor(ids).to(NAME)] if by_ids else []))
        ib.discard_epoch()
        with gpu.waiting():
            assert ib.epoch == 0
            assert all(score != score for score in scores(ib))


# --- what a program may set for all of torch


@pytest.mark.parametrize("by_ids", [False, True], ids=["in order", "by ids"])
def test_defaults_of_torch_change_nothing(by_ids: bool) -> None:
    expected = train(InfoBatch(SIZE, EPOCHS, seed=3), by_ids, None)

    def steps(ib: InfoBatch) -> list[tuple[int, ...]]:
        found = []
        for epoch in range(EPOCHS):
            for ids in ib.batch_sampler(BATCH):
                losses = torch.tensor([loss_of(i, epoch) for i in ids], dtype=torch.float32, device="cpu")
                numbers = torch.tensor(ids, device="cpu")
                weighted = ib.update(losses, numbers if by_ids else None, reduction="none")
                assert weighted.device.type == "cpu"
                assert weighted.dtype == torch.float32
                ratio = ib.get_weights(numbers) * losses
                assert torch.equal(ratio, weighted)
                found.append(tuple(ids))
        return found

    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert steps(InfoBatch(SIZE, EPOCHS, seed=3)) == [row[1] for row in expected]
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)


def test_a_first_step_in_inference_mode_leaves_tensors_that_can_be_trained_with() -> None:
    for by_ids in (False, True):
        ib = InfoBatch(SIZE, EPOCHS)
        batches = iter(ib.batch_sampler(BATCH))

        def step(weight: Any, ib: InfoBatch = ib, batches: Any = batches, by_ids: bool = by_ids) -> Any:
            ids = torch.tensor(next(batches), device="meta")
            losses = torch.empty(BATCH, device="meta") * weight
            return ib.update(losses, ids if by_ids else None)

        with torch.inference_mode():
            step(torch.ones((), device="meta"))
        weight = torch.ones((), device="meta", requires_grad=True)
        step(weight).backward()
        assert weight.grad is not None


def test_a_filtered_stream_on_a_device_is_that_on_the_cpu(gpu: Device) -> None:
    """What came back is known to the host when it asks, and progress counts rows until then."""
    runs = InfoBatch(SIZE, EPOCHS, seed=2), InfoBatch(SIZE, EPOCHS, seed=2)
    samples = list(range(SIZE))
    on_gpu, on_cpu = (ib.filter(samples, lambda id: id) for ib in runs)
    for epoch in range(EPOCHS):
        weighed = []
        for ib, stream in zip(runs, (on_gpu, on_cpu), strict=True):
            ids = list(stream)
            half = len(ids) // 2
            for part in (ids[:half], ids[half:]):
                losses = host_losses(part, epoch)
                if ib is runs[0]:
                    losses = losses.to(NAME)
                reduced = ib.update(losses, torch.tensor(part))
                if part[0] == 0:
                    assert ib.progress == pytest.approx((epoch + half / len(ids)) / EPOCHS)
                with gpu.waiting():
                    weighed.append(float(reduced.inner if ib is runs[0] else reduced))
            with gpu.waiting():
                assert ib.epoch == epoch + 1
        assert weighed[:2] == pytest.approx(weighed[2:], rel=1e-6)
    with gpu.waiting():
        runs[0].set_epoch(EPOCHS)
        runs[1].set_epoch(EPOCHS)
    assert torch.equal(runs[0].scores, runs[1].scores)
    assert runs[0].get_pruned_count() == runs[1].get_pruned_count() > 0
