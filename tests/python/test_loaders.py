"""The three lines in the loops that people write with torch: workers, collate functions, accumulation, mixed
precision, learning rates. In each of them every score has to be its sample's own last loss."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from loops import Numbers, Record, nothing_to_warn_of, observed, weights_of, whatever_it_warns_of
from server import context, run_text

import infobatch
from infobatch import Indexed, InfoBatch

try:
    import torch
    from torch.utils.data import DataLoader
except ImportError:  # every test here is skipped then
    pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # for few processors
]


class Pictures:
    """Samples of two numbers, whose target is their own index."""

    note = "an attribute of the data set within"

    def __init__(self, size: int) -> None:
        self.size = size
        self.classes = ["cat", "dog"]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([index / self.size, 1.0]), index


class Fetched(Pictures):
    """The same, fetched a batch at a time. One by one they cannot be had."""

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("__getitems__ must be used")

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [Pictures.__getitem__(self, index) for index in indices]


class Named(Pictures):
    """The same as dictionaries."""

    def __getitem__(self, index: int) -> Any:
        inputs, target = super().__getitem__(index)
        return {"inputs": inputs, "target": target, "name": f"picture {index}"}


def stack(samples: list[Any]) -> Any:
    """A collate function of one's own."""
    return torch.stack([inputs for inputs, _ in samples]), torch.tensor([target for _, target in samples])


class Training:
    """A training of a small model that checks every step against the rules, with the plan in hand."""

    def __init__(self, ib: InfoBatch) -> None:
        torch.manual_seed(3)
        self.ib = ib
        self.model = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.record = Record()
        self.last = 0  # samples of the last epoch

    def losses(self, inputs: Any, targets: Any) -> Any:
        """[B]: different for each sample, and moving with the model."""
        return (self.model(inputs)[:, 0] - targets / 100) ** 2

    def epoch(self, loader: Any, unpack: Callable[[Any], Any] = lambda batch: batch) -> None:
        plan = self.ib.plan
        weights, planned = weights_of(plan), list(plan.ids)
        length, steps, delivered = len(loader), 0, 0
        for batch in loader:
            inputs, targets = unpack(batch)
            ids = targets.tolist()
            losses = self.losses(inputs, targets)
            loss = self.ib.update(losses)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            values = losses.detach().tolist()
            expected = sum(weights[i] * x for i, x in zip(ids, values, strict=True)) / len(ids)
            assert loss.item() == pytest.approx(expected, rel=1e-5)
            assert ids == planned[delivered : delivered + len(ids)]
            self.record.saw(ids, values)
            steps, delivered = steps + 1, delivered + len(ids)
        assert steps == length
        self.last = delivered

    def run(self, loader: Any, epochs: int, unpack: Callable[[Any], Any] = lambda batch: batch) -> None:
        with nothing_to_warn_of():
            for epoch in range(epochs):
                self.epoch(loader, unpack)
                assert self.ib.epoch == epoch + 1
            self.record.check(self.ib)
        assert self.ib.get_pruned_count() > 0


def loader_of(ib: InfoBatch, by: str, batch_size: int = 32, drop_last: bool = False, **options: Any) -> Any:
    if by == "sampler":
        return DataLoader(ib, batch_size, sampler=ib.sampler, drop_last=drop_last, **options)
    return DataLoader(ib, batch_sampler=ib.batch_sampler(batch_size, drop_last), **options)


both = pytest.mark.parametrize("by", ["sampler", "batch_sampler"])
LIKE_OTHERS = pytest.mark.one_environment("of torch it uses what other options of the same test use")


# --- the official three lines


@both
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"num_workers": 4}, id="4 workers", marks=LIKE_OTHERS),
        pytest.param({"num_workers": 1, "prefetch_factor": 8}, id="prefetch"),
        pytest.param({"num_workers": 2, "persistent_workers": True}, id="persistent"),
        pytest.param(
            {
                "batch_size": 8,
                "num_workers": 2,
                "persistent_workers": True,
                "prefetch_factor": 3,
                "drop_last": True,
            },
            id="persistent, prefetch, drop_last",
        ),
        pytest.param({"drop_last": True}, id="drop_last"),
        pytest.param(
            {"batch_size": 16, "num_workers": 1, "drop_last": True},
            id="1 worker, drop_last",
            marks=LIKE_OTHERS,
        ),
        pytest.param({"batch_size": 1}, id="batch of 1", marks=LIKE_OTHERS),
        pytest.param({"batch_size": 150}, id="one batch", marks=LIKE_OTHERS),
        pytest.param({"collate_fn": stack}, id="collate"),
        pytest.param({"num_workers": 1, "collate_fn": stack}, id="collate in a worker", marks=LIKE_OTHERS),
    ],
)
def test_every_score_is_its_samples_own(by: str, options: dict[str, Any]) -> None:
    ib = InfoBatch(Pictures(150), 5, seed=1)
    assert isinstance(ib, torch.utils.data.Dataset)
    assert isinstance(ib.sampler, torch.utils.data.Sampler)
    assert isinstance(ib.batch_sampler(2), torch.utils.data.Sampler)
    training = Training(ib)
    training.run(loader_of(ib, by, **options), 5)
    dropped = 150 % options.get("batch_size", 32) if options.get("drop_last") else 0
    assert training.last == 150 - dropped  # the last epoch is annealed


@pytest.mark.parametrize(
    ("method", "by"),
    [("fork", "sampler"), ("fork", "batch_sampler"), ("spawn", "sampler"), ("forkserver", "batch_sampler")],
)
def test_workers_may_be_started_in_any_way(method: str, by: str) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    ib = InfoBatch(Pictures(100), 5, seed=1)
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": context(method)}
    Training(ib).run(loader_of(ib, by, **options), 3)


@both
def test_pinned_memory_is_the_loaders_business(by: str) -> None:
    ib = InfoBatch(Pictures(100), 5, seed=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        Training(ib).run(loader_of(ib, by, num_workers=1, pin_memory=True), 3)


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_with_getitems_gives_samples_and_no_ids(by: str, workers: int) -> None:
    ib = InfoBatch(Fetched(100), 5, seed=1)
    Training(ib).run(loader_of(ib, by, num_workers=workers), 3)
    indexed = InfoBatch(Fetched(100), 5, seed=1)
    loader = DataLoader(Indexed(indexed), batch_sampler=indexed.batch_sampler(32), num_workers=workers)
    for ids, (_, targets) in loader:
        assert torch.equal(ids, targets)


@both
def test_batches_may_be_dictionaries(by: str) -> None:
    ib = InfoBatch(Named(100), 5, seed=1)
    Training(ib).run(loader_of(ib, by), 3, lambda batch: (batch["inputs"], batch["target"]))


def test_data_sets_of_torch_can_be_wrapped() -> None:
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    inputs = torch.rand(60, 2)
    tensors = TensorDataset(inputs, torch.arange(60))
    for inner in (tensors, ConcatDataset([tensors]), Subset(tensors, range(60))):
        ib = InfoBatch(inner, 5, seed=1)
        Training(ib).run(loader_of(ib, "sampler"), 3)
    assert torch.equal(InfoBatch(tensors, 5).tensors[0], inputs)


def test_the_data_set_may_be_given_to_the_loader_without_the_infobatch() -> None:
    pictures = Pictures(100)
    ib = InfoBatch(len(pictures), 5, seed=1)
    Training(ib).run(DataLoader(pictures, batch_sampler=ib.batch_sampler(32)), 3)
    other = InfoBatch(100, 5, seed=1)
    Training(other).run(DataLoader(pictures, 32, sampler=other.sampler, num_workers=2), 3)


def test_another_loader_over_the_same_infobatch_sees_a_plain_data_set() -> None:
    """A validation in the midst of an epoch, over the very object that is trained with."""
    ib = InfoBatch(Pictures(100), 5, seed=1)
    training = Training(ib)
    inner = training.losses

    def losses(inputs: Any, targets: Any) -> Any:
        with torch.no_grad():
            assert sum(len(t) for _, t in DataLoader(ib, 40, shuffle=True)) == 100
        return inner(inputs, targets)

    training.losses = losses  # type: ignore[method-assign]
    training.run(loader_of(ib, "sampler"), 3)


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_peeking_into_a_loader_costs_nothing(by: str, workers: int) -> None:
    ib = InfoBatch(Pictures(400), 5, seed=1)
    loader = loader_of(ib, by, num_workers=workers)
    training = Training(ib)
    with nothing_to_warn_of():
        for _ in range(3):
            first = next(iter(loader))[1].tolist()
            assert next(iter(loader))[1].tolist() == first == list(ib.plan.ids)[:32]
            training.epoch(loader)
        training.record.check(ib)


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_that_breaks_off_gives_no_wrong_score(by: str, workers: int) -> None:
    ib = InfoBatch(Pictures(200), 8, seed=1)
    loader = loader_of(ib, by, 16, num_workers=workers)
    record = Record()
    with whatever_it_warns_of():
        for epoch in range(4):
            for step, (_, targets) in enumerate(loader):
                losses = targets / 1000 + epoch
                ib.update(losses)
                record.saw(targets.tolist(), losses.tolist())
                if epoch in (1, 2) and step == 5:
                    break
        len(ib.sampler)
    found = observed(ib)
    assert len(found) == 200
    for index, score in found.items():
        assert min(abs(score - (index / 1000 + epoch)) for epoch in range(4)) < 1e-6
    if workers == 0:  # with batches in flight, those that are beyond doubt enter
        assert found == record.last


def test_the_default_seed_is_that_of_torch_and_is_only_read() -> None:
    def order(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return list(InfoBatch(100, 8).sampler)

    assert order(5) == order(5) != order(6)
    torch.manual_seed(-5)  # torch takes it modulo 2^64
    assert sorted(InfoBatch(10, 8).sampler) == list(range(10))


def test_an_infobatch_that_was_made_before_torch_was_imported_works_with_it() -> None:
    program = """
import sys
from infobatch import InfoBatch
assert "torch" not in sys.modules
ib = InfoBatch(list(range(200)), 5, seed=1)
import copy, io, torch
from torch.utils.data import DataLoader
def epoch(ib, **options):
    plan = list(ib.plan.ids)
    seen = []
    for ids in DataLoader(ib, 16, sampler=ib.sampler, **options):
        ib.update(ids / 64 * torch.ones(1, requires_grad=True)).backward()
        seen += ids.tolist()
    assert seen == plan
epoch(ib)
epoch(ib, num_workers=2)
file = io.BytesIO()
torch.save(ib.state_dict(), file)
file.seek(0)
other = InfoBatch(list(range(200)), 5, seed=1)
assert isinstance(other, torch.utils.data.Dataset)
other.load_state_dict(torch.load(file, weights_only=True))
twin = copy.deepcopy(ib)
for run in (ib, other, twin):
    epoch(run)
    len(run.sampler)
    assert [float(score) for score in run.scores] == [i / 64 for i in range(200)]
assert list(ib.sampler) == list(other.sampler) == list(twin.sampler)
print("right")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


# --- accumulation


def gradient(model: Any) -> Any:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_gradients_may_be_accumulated_over_whole_batches(by: str, workers: int) -> None:
    ib = InfoBatch(Pictures(160), 5, seed=1)
    loader = loader_of(ib, by, 16, num_workers=workers)
    training = Training(ib)
    with nothing_to_warn_of():
        for _ in range(3):
            for step, (inputs, targets) in enumerate(loader):
                losses = training.losses(inputs, targets)
                (ib.update(losses) / 4).backward()
                training.record.saw(targets.tolist(), losses.tolist())
                if step % 4 == 3 or step + 1 == len(loader):
                    training.optimizer.step()
                    training.optimizer.zero_grad()
        training.record.check(ib)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["split", "chunk"])
def test_gradients_may_be_accumulated_over_parts_of_a_batch(split: str, workers: int) -> None:
    ib = InfoBatch(Pictures(150), 5, seed=1)
    loader = loader_of(ib, "batch_sampler", 32, num_workers=workers)
    training = Training(ib)
    with nothing_to_warn_of():
        for _ in range(3):
            weights = weights_of(ib.plan)
            for inputs, targets in loader:
                parts = targets.split(8) if split == "split" else targets.chunk(4)
                pieces = inputs.split(8) if split == "split" else inputs.chunk(4)
                training.optimizer.zero_grad()
                for part, piece in zip(parts, pieces, strict=True):
                    losses = training.losses(piece, part)
                    ib.update(losses, reduction="sum").backward()
                    training.record.saw(part.tolist(), losses.tolist())
                found = gradient(training.model)
                training.optimizer.zero_grad()
                w = torch.tensor([weights[i] for i in targets.tolist()])
                (training.losses(inputs, targets) * w).sum().backward()
                assert torch.allclose(found, gradient(training.model), rtol=1e-4)
                training.optimizer.step()
        training.record.check(ib)


def test_parts_of_a_batch_of_unknown_size_are_refused_with_the_cure() -> None:
    ib = InfoBatch(Pictures(96), 5, seed=1)
    batches = iter(loader_of(ib, "sampler", 32))
    ids = next(batches)[1]
    ib.update(ids[:16] / 100)
    with pytest.raises(RuntimeError, match=r"update\(losses, ids\)"):
        ib.update(ids[16:] / 100), next(batches), ib.update(ids[:16] / 100)
    with whatever_it_warns_of():
        next(iter(ib.sampler))
    for index, score in observed(ib).items():
        assert score == pytest.approx(index / 100)


# --- mixed precision


@both
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_mixed_precision_gets_a_float32_loss_and_scores_of_its_losses(by: str, kind: str) -> None:
    ib = InfoBatch(Pictures(150), 5, seed=1)
    dtype = getattr(torch, kind)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=kind == "float16")
    training = Training(ib)
    with nothing_to_warn_of():
        for _ in range(3):
            weights = weights_of(ib.plan)
            for inputs, targets in loader_of(ib, by):
                with torch.autocast("cpu", dtype=dtype):
                    outputs = training.model(inputs)[:, 0]
                    assert outputs.dtype == dtype
                    losses = (outputs - (targets / 100).to(dtype)).abs()
                    assert losses.dtype == dtype
                    loss = ib.update(losses)
                assert loss.dtype == torch.float32
                w = torch.tensor([weights[i] for i in targets.tolist()])
                assert torch.allclose(loss, (losses.float() * w).mean())
                training.optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(training.optimizer)
                scaler.update()
                assert gradient(training.model).isfinite().all()
                training.record.saw(targets.tolist(), losses.float().tolist())
        training.record.check(ib)


def test_rule_6_update_gives_float32_or_float64_and_leaves_the_losses_as_they_are() -> None:
    ib = InfoBatch(96, 8)
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for _, kind in zip(ib.batch_sampler(24), kinds, strict=True):
        losses = torch.rand(24, 3, dtype=kind, requires_grad=True)
        before = losses.detach().clone()
        loss = ib.update(losses)
        assert loss.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
        assert torch.equal(losses, before)
        loss.backward()
        assert losses.grad is not None
        assert losses.grad.sum().item() == pytest.approx(1.0, abs=0.01)
    len(ib.sampler)
    assert not ib.scores.isnan().any()


# --- shapes


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "weighted_mean"])
def test_losses_with_more_dimensions_score_their_mean_and_spread_the_weight(reduction: str) -> None:
    ib = InfoBatch(64, 8, seed=5)
    generator = torch.Generator().manual_seed(1)
    record = Record()
    for _ in range(2):
        weights = weights_of(ib.plan)
        for ids in ib.batch_sampler(16):
            # Not contiguous, either.
            losses = torch.rand(5, 3, len(ids), generator=generator).permute(2, 0, 1)
            w = torch.tensor([weights[i] for i in ids])[:, None, None]
            found = ib.update(losses, reduction=reduction)
            expected = {
                "mean": (losses * w).mean(),
                "sum": (losses * w).sum(),
                "none": losses * w,
                "weighted_mean": (losses * w).sum() / w.expand_as(losses).sum(),
            }[reduction]
            assert torch.allclose(found, expected)
            record.saw(ids, losses.mean((1, 2)).tolist())
    len(ib.sampler)
    assert observed(ib) == pytest.approx(record.last)


def test_token_losses_with_padding_pass_their_scores() -> None:
    ib = InfoBatch(64, 8, seed=5)
    record = Record()
    for ids in ib.batch_sampler(16):
        numbers = torch.tensor(ids)
        mask = torch.arange(6) <= numbers[:, None] % 6
        losses = (numbers[:, None] / 100 + torch.arange(6)) * mask
        scores = losses.sum(1) / mask.sum(1)
        loss = ib.update(losses, scores=scores, reduction="sum") / mask.sum()
        assert torch.allclose(loss, losses.sum() / mask.sum())
        record.saw(ids, scores.tolist())
    record.check(ib)


def test_losses_whose_first_dimension_is_not_the_batch_are_told_so() -> None:
    ib = InfoBatch(64, 8)
    batches = iter(ib.batch_sampler(16))
    next(batches)
    with pytest.raises(RuntimeError, match="the first dimension must be the batch"):
        ib.update(torch.rand(32, 16))
    ib.update(torch.rand(16, 32))


# --- ids


@pytest.mark.parametrize("workers", [0, 2])
@both
def test_with_ids_batches_may_be_skipped_and_reordered(by: str, workers: int) -> None:
    ib = InfoBatch(Pictures(150), 5, seed=1)
    if by == "sampler":
        loader = DataLoader(Indexed(ib), 16, sampler=ib.sampler, num_workers=workers)
    else:
        loader = DataLoader(Indexed(ib), batch_sampler=ib.batch_sampler(16), num_workers=workers)
    record, rng = Record(), random.Random(2)
    with whatever_it_warns_of():
        for epoch in range(4):
            weights = weights_of(ib.plan)
            held = []
            for ids, (_, targets) in loader:
                assert torch.equal(ids, targets)
                held.append(ids)
                rng.shuffle(held)
                if rng.random() < 0.2:
                    continue
                ids = held.pop()
                ids = ids[torch.randperm(len(ids))[: rng.choice([3, 16])]]
                losses = ids / 100 + epoch
                loss = ib.update(losses, ids)
                w = torch.tensor([weights[i] for i in ids.tolist()])
                assert torch.allclose(loss, (losses * w).mean())
                record.saw(ids.tolist(), losses.tolist())
            ib.set_epoch(epoch + 1)
        record.check(ib)


def test_with_ids_a_loader_that_does_not_keep_the_order_is_right() -> None:
    ib = InfoBatch(Pictures(150), 5, seed=1)
    options = {"num_workers": 2, "in_order": False}
    loader = DataLoader(Indexed(ib), batch_sampler=ib.batch_sampler(8), **options)
    record = Record()
    with nothing_to_warn_of():
        for epoch in range(3):
            for ids, (_, targets) in loader:
                losses = targets / 100 + epoch
                ib.update(losses, ids)
                record.saw(targets.tolist(), losses.tolist())
            assert ib.epoch == epoch + 1
        record.check(ib)


@both
@pytest.mark.parametrize("persistent", [False, True])
def test_without_ids_a_loader_that_does_not_keep_the_order_is_refused(by: str, persistent: bool) -> None:
    ib = InfoBatch(Pictures(600), 5, seed=1)

    def epoch(**options: Any) -> None:
        for _, targets in loader_of(ib, by, **options):
            ib.update(targets / 100)

    with nothing_to_warn_of():
        epoch(in_order=False)  # without workers batches keep their order whatever a loader says
        for _ in range(2):
            with pytest.raises(RuntimeError, match="in_order=False: pass the ids"):
                epoch(num_workers=2, in_order=False, persistent_workers=persistent)
            assert ib.epoch == 1
        epoch(num_workers=2)
        assert ib.epoch == 2


def test_observe_and_scale_gradient_weigh_a_loss_that_exists_only_reduced() -> None:
    ib = InfoBatch(96, 8, seed=1)
    for epoch in range(2):
        for ids in ib.batch_sampler(24):
            weights = ib.observe(torch.tensor(ids) / 1000)
            outputs = torch.ones(len(ids), 2, requires_grad=True)
            scaled = infobatch.scale_gradient(outputs, weights)
            assert torch.equal(scaled, outputs)
            scaled.sum().backward()
            assert torch.equal(outputs.grad, weights[:, None].expand(-1, 2))
            if ib.epoch == epoch:  # behind its last batch an epoch is over
                assert torch.equal(ib.get_weights(torch.tensor(ids)), weights)
            weights.zero_()  # the caller's own
        if epoch == 1:
            break
    len(ib.sampler)
    assert torch.allclose(ib.scores, torch.arange(96) / 1000)
    with pytest.raises(ValueError, match=r"weights must be \[B\]"):
        infobatch.scale_gradient(torch.ones(3, 2), torch.ones(2))


# --- the data set


def test_a_deep_copy_with_torch_goes_on_and_a_pickled_one_is_the_data_set() -> None:
    ib = InfoBatch(Pictures(100), 5, seed=1)
    training = Training(ib)
    with nothing_to_warn_of():
        training.epoch(loader_of(ib, "sampler"))
    twin = copy.deepcopy(ib)
    training.record.check(twin)
    assert isinstance(twin, torch.utils.data.Dataset)
    assert list(twin.sampler) == list(ib.sampler)
    plain = pickle.loads(pickle.dumps(ib))
    assert (len(plain), plain.note, plain[3][1]) == (100, Pictures.note, 3)
    assert [t.tolist() for _, t in DataLoader(plain, 50)] == [list(range(50)), list(range(50, 100))]
    with pytest.raises(RuntimeError, match="plain data set"):
        plain.update(torch.ones(3))
    assert not hasattr(plain, "__getitems__")


class Curious(Pictures):
    """Calls the run from within a worker, and tells what it says."""

    ib: InfoBatch

    def __getitem__(self, index: int) -> Any:
        with pytest.raises(RuntimeError) as caught:
            self.ib.update(torch.ones(1))
        return str(caught.value)


@pytest.mark.parametrize(("method", "where"), [("fork", "worker 0"), ("forkserver", "pickled")])
def test_a_run_that_is_called_in_a_worker_says_where_it_is(method: str, where: str) -> None:
    inner = Curious(10)
    ib = InfoBatch(inner, 5)
    inner.ib = ib
    for texts in loader_of(ib, "batch_sampler", 5, num_workers=1, multiprocessing_context=context(method)):
        for text in texts:
            assert "plain data set" in text
            assert where in text
        ib.update(torch.ones(5))  # here the run goes on
    assert ib.epoch == 1


def test_attributes_of_the_data_set_within_are_there_also_in_workers() -> None:
    ib = InfoBatch(Pictures(10), 5)
    assert ib.classes == ["cat", "dog"]
    assert ib.note == Pictures.note
    assert not hasattr(ib, "__getitems__")
    assert hasattr(InfoBatch(Fetched(10), 5), "__getitems__")
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        ib.colour  # noqa: B018


# --- refusals


def test_what_is_wrong_with_tensors_is_refused_in_words() -> None:
    ib = InfoBatch(96, 8)
    next(iter(ib.batch_sampler(24)))
    with pytest.raises(ValueError, match=r"reduction='none'.*scale_gradient"):
        ib.update(torch.tensor(1.0))
    with pytest.raises(ValueError, match="floating"):
        ib.update(torch.ones(24, dtype=torch.int64))
    with pytest.raises(ValueError, match="reduction"):
        ib.update(torch.ones(24), reduction="median")
    with pytest.raises(ValueError, match="dense"):
        ib.update(torch.ones(24).to_sparse())
    with pytest.raises(ValueError, match="one for each of 24"):
        ib.update(torch.ones(24), scores=torch.ones(23))
    with pytest.raises(ValueError, match="integers"):
        ib.update(torch.ones(2), torch.tensor([0.0, 1.0]))
    with pytest.raises(IndexError, match="96"):
        ib.update(torch.ones(2), torch.tensor([0, 96]))

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[int]:
            return iter([1])

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> int:
            return index

    with pytest.raises(TypeError, match="iterable"):
        InfoBatch(Stream(), 8)
    ib.update(torch.ones(24))


def test_another_device_is_brought_back_once_an_epoch() -> None:
    ib = InfoBatch(96, 8, device="meta")
    for ids in ib.batch_sampler(24):
        loss = ib.update(torch.ones(len(ids), device="meta", requires_grad=True))
        assert loss.device.type == "meta"
        loss.backward()
    with pytest.raises(ValueError, match="device"):
        ib.update(torch.ones(24))


# --- columns, views


def test_columns_of_every_dtype_come_back_as_they_are() -> None:
    ib = InfoBatch(4, 8)
    kinds = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8"]
    for kind in kinds:
        ib.set_column(f"c_{kind}", torch.tensor([1, 2, 3, 4]).to(getattr(torch, kind)))
    for kind in kinds:
        found = ib.column(f"c_{kind}")
        assert found.dtype == getattr(torch, kind)
        assert found.tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="complex"):
        ib.set_column("c", torch.zeros(4, dtype=torch.complex64))


def test_scores_are_a_tensor_over_the_engines_memory_that_holds_its_run() -> None:
    ib = InfoBatch(50, 8)
    scores = ib.scores
    assert scores.isnan().all()
    address = scores.data_ptr()
    for ids in ib.batch_sampler(10):
        ib.update(torch.tensor(ids) / 10)
    len(ib.sampler)
    assert ib.scores.data_ptr() == address
    del ib
    for _ in range(10):
        list(InfoBatch(50, 8).sampler)
    assert torch.allclose(scores, torch.arange(50) / 10)


def test_weights_that_autograd_has_saved_outlive_their_epoch() -> None:
    ib = InfoBatch(64, 8, prune_ratio=0.75, seed=1)
    for ids in ib.batch_sampler(64):
        ib.update(torch.tensor(ids) / 64)
    (ids,) = ib.batch_sampler(64)
    weights = torch.tensor(list(ib.weights))
    losses = torch.rand(len(ids), requires_grad=True)
    loss = ib.update(losses, reduction="sum")
    for _ in range(4):
        for batch in ib.batch_sampler(16):
            ib.update(torch.rand(len(batch)))
    del ib
    loss.backward()
    assert torch.equal(losses.grad, weights)
    assert set(weights.tolist()) == {1.0, 4.0}


# --- learning rates


@both
def test_a_scheduler_that_counts_steps_ends_where_it_should(by: str) -> None:
    ib = InfoBatch(Numbers(96), 8, seed=1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    steps = ib.max_steps(24)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    schedule = infobatch.FullRunScheduler(cycle, ib, steps)
    made, rates = 0, []
    for _ in range(8):
        for ids in loader_of(ib, by, 24):
            ib.update(ids / 1000)
            optimizer.step()
            schedule.step()
            made += 1
            rates.append(schedule.get_last_lr()[0])
            assert abs(cycle.last_epoch / steps - ib.progress) <= 1 / steps
    assert made < steps
    assert cycle.last_epoch == steps - 1
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)
    again = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    other = infobatch.FullRunScheduler(again, ib, steps)
    other.load_state_dict(schedule.state_dict())
    assert again.last_epoch == steps - 1
    with pytest.raises(ValueError, match="at least 1"):
        infobatch.FullRunScheduler(cycle, ib, 0)


def test_chained_schedulers_end_where_they_should() -> None:
    ib = InfoBatch(96, 8)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    steps = ib.max_steps(24)
    parts = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) for _ in range(2)]
    chained = torch.optim.lr_scheduler.ChainedScheduler(parts, optimizer)
    schedule = infobatch.FullRunScheduler(chained, ib, steps)
    for _ in range(8):
        for ids in ib.batch_sampler(24):
            ib.update(torch.tensor(ids) / 1000)
            optimizer.step()
            schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.9 ** (2 * (steps - 1)))


class _CountsFromMinusOne:
    """As DeepSpeed's schedulers count: a first step sets the first rate."""

    last_batch_iteration = -1

    def step(self) -> None:
        self.last_batch_iteration += 1


def test_schedulers_that_count_as_deepspeeds_do_end_where_they_should() -> None:
    ib = InfoBatch(96, 8, seed=1)
    steps, made = ib.max_steps(24), 0
    counts = _CountsFromMinusOne()
    schedule = infobatch.FullRunScheduler(counts, ib, steps)  # type: ignore[arg-type]
    for epoch in range(8):
        for ids in ib.batch_sampler(24):
            ib.update(torch.tensor(ids) / 1000)
            schedule.step()
            made += 1
            if epoch == 0:
                assert counts.last_batch_iteration == made - 1
    assert made < steps
    assert counts.last_batch_iteration == steps - 1  # where it ends after so many steps of its own


def test_progress_lr_follows_the_fraction_of_the_run_that_is_done() -> None:
    ib = InfoBatch(Numbers(96), 8, seed=1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=2.0)
    schedule = infobatch.progress_lr(optimizer, ib, lambda p: 1 - p)
    assert schedule.get_last_lr() == [2.0]
    for _ in range(8):
        for ids in loader_of(ib, "sampler", 24):
            ib.update(ids / 1000)
            optimizer.step()
            schedule.step()
            assert schedule.get_last_lr()[0] == pytest.approx(2 * (1 - ib.progress))
    assert schedule.get_last_lr() == [0.0]


def test_one_cycle_rebuilt_from_the_loaders_length_before_each_epoch_ends_where_it_should() -> None:
    """What the official CIFAR example does."""
    ib = InfoBatch(Numbers(960), 8, seed=1)
    loader = loader_of(ib, "sampler", 24)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    lengths, rates = [], []
    for epoch in range(8):
        lengths.append(len(loader))
        for group in optimizer.param_groups:  # OneCycleLR wants them where it goes on
            group.setdefault("initial_lr", 0.1 / 25)
            group.update(max_lr=0.1, min_lr=0.1 / 25 / 1e4, max_momentum=0.95, base_momentum=0.85)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            0.1,
            epochs=8,
            steps_per_epoch=len(loader),
            last_epoch=epoch * len(loader) - 1,
        )
        steps = 0
        for ids in loader:
            ib.update(ids / 1000)
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            cycle.step()
            steps += 1
        assert steps == lengths[-1]
    assert lengths[0] == lengths[7] == 40
    assert max(lengths[1:7]) < 40
    assert len(rates) == sum(lengths) < 8 * 40
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)


# --- rule 12: no global state


def test_rule_12_no_global_random_generator_is_touched() -> None:
    numpy = pytest.importorskip("numpy")
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    ib = InfoBatch(Pictures(96), 5, policy="random")
    for _ in range(3):
        # With a generator of its own a loader draws nothing either.
        for _, targets in loader_of(ib, "sampler", 24, generator=torch.Generator()):
            ib.update(targets / 100)
        for batch in ib.batch_sampler(24):
            ib.update(torch.tensor(batch) / 100)
        ib.state_dict(), copy.deepcopy(ib), ib.statistics, ib.plan
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    after = numpy.random.get_state()
    assert after[0] == before[2][0]
    assert (after[1] == before[2][1]).all()
    assert after[2:] == before[2][2:]


def test_rule_12_nothing_of_torch_is_patched(tmp_path: Path) -> None:
    program = """
import sys, torch, torch.utils.data as data
assert "infobatch" not in sys.modules
from torch.utils.data import _utils, dataloader, sampler
owners = [torch, torch.Tensor, torch.autograd.Function, torch.nn.Module, torch.optim.Optimizer, data,
          dataloader, sampler, _utils, _utils.fetch, _utils.worker, _utils.collate,
          _utils.fetch._MapDatasetFetcher,
          *(value for value in vars(dataloader).values() if isinstance(value, type)),
          *(value for value in vars(sampler).values() if isinstance(value, type))]
def attributes():
    return [{name: id(value) for name, value in vars(owner).items() if not name.startswith("_abc")}
            for owner in owners]
for _ in data.DataLoader([1, 2]): pass  # whatever torch itself sets up
torch.ones(1, requires_grad=True).sum().backward()
torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0)
before = attributes()
from infobatch import InfoBatch, FullRunScheduler, Indexed, scale_gradient
ib = InfoBatch(list(range(50)), 5)
for _ in range(2):
    for ids in data.DataLoader(ib, 10, sampler=ib.sampler):
        ib.update(ids / 100 * torch.ones(1, requires_grad=True)).backward()
ib.state_dict()
after = attributes()
for owner, old, new in zip(owners, before, after):
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    changed -= {"__warningregistry__"}
    assert not changed, (owner, changed)
print(len(owners))
"""
    done = run_text(program, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@both
def test_a_progress_bar_over_a_loader_shows_the_right_total(by: str) -> None:
    tqdm = pytest.importorskip("tqdm")
    ib = InfoBatch(Numbers(500), 5, seed=3)
    loader = loader_of(ib, by, 20)
    totals = []
    with open("/dev/null", "w") as nowhere:
        for epoch in range(5):
            bar = tqdm.tqdm(loader, file=nowhere)
            for ids in bar:
                ib.update(ids / 1000 + epoch)
            assert bar.n == bar.total
            totals.append(bar.total)
    assert totals[0] == totals[4] == 25
    assert max(totals[1:4]) < 25
