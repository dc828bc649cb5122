"""Streams that are filtered by the plan: what comes, in which order, whose losses these are, and what is told
of a stream that lacks samples or has them twice. Loaders of torch read them in workers; where there is no
torch a pickled filter is what a worker has."""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loops import Record, losses_of, nothing_to_warn_of, observed, weights_of, whatever_it_warns_of

import infobatch
from infobatch import InfoBatch

try:
    # Else workers of torch import it, and an import of Python 3.11 in a fork may fail while the garbage of
    # earlier loaders is collected.
    import numpy.random  # noqa: F401
    import torch
    from torch.utils.data import DataLoader, get_worker_info
except ImportError:  # tests that need it are skipped then
    pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

needs_torch = pytest.mark.torch
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # few processors

N = 203
EPOCHS = 6


class Records:
    """A stream of undecoded samples in an order of its own, which worker and number of workers divide."""

    def __init__(self, ids: Iterable[int] = range(N), divided: bool = True, end: int | None = None) -> None:
        self.ids = sorted(ids, key=lambda id: id * 57 % 211)
        self.divided = divided
        self.end = end  # of a part

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, workers = 0, 1
        if importlib.util.find_spec("torch") and get_worker_info() is not None and self.divided:
            worker, workers = get_worker_info().id, get_worker_info().num_workers
        for id in self.ids[worker : self.end : workers]:
            yield {"id": id, "raw": b"undecoded"}


def id_of(sample: dict[str, Any]) -> int:
    found: int = sample["id"]
    return found


def make(**options: Any) -> InfoBatch:
    return InfoBatch(N, **{"num_epochs": EPOCHS, "seed": 3, **options})


def batches(samples: Iterable[dict[str, Any]], size: int = 16) -> Iterator[list[int]]:
    taken: list[int] = []
    for sample in samples:
        taken.append(sample["id"])
        if len(taken) == size:
            yield taken
            taken = []
    if taken:
        yield taken


def epoch_of(ib: InfoBatch, samples: Iterable[dict[str, Any]], epoch: int, record: Record) -> list[int]:
    """Trains on an epoch; returns its samples as they came."""
    came: list[int] = []
    for ids in batches(samples):
        weights = weights_of(ib.plan)
        losses = losses_of(ids, epoch)
        loss = ib.update(losses, ids)
        assert loss == pytest.approx(
            sum(weights[i] * x for i, x in zip(ids, losses, strict=True)) / len(ids), rel=1e-5
        )
        record.saw(ids, losses)
        came += ids
    return came


def in_stream_order(ids: Iterable[int]) -> list[int]:
    return [sample["id"] for sample in Records(ids)]


# --- in the process that trains


@pytest.mark.parametrize("policy", ["infobatch", "random", "infobatch_quantile"])
def test_an_epoch_is_what_its_plan_keeps_in_the_order_of_the_stream(policy: str) -> None:
    ib, record = make(policy=policy), Record()
    stream = ib.filter(Records(), id_of)
    saved = 0
    with nothing_to_warn_of():
        for epoch in range(EPOCHS):
            planned = list(ib.plan.ids)
            assert ib.epoch == epoch
            assert epoch_of(ib, stream, epoch, record) == in_stream_order(planned)
            assert ib.epoch == epoch + 1
            assert ib.progress == pytest.approx((epoch + 1) / EPOCHS)
            saved += N - len(planned)
        record.check(ib)
    assert saved == ib.get_pruned_count() > N // 4


def test_the_plans_are_those_of_a_run_without_a_stream() -> None:
    ib, by_sampler = make(), make()
    stream = ib.filter(Records(), id_of)
    for epoch in range(EPOCHS):
        assert list(ib.plan.ids) == list(by_sampler.plan.ids)
        assert list(ib.plan.weights) == list(by_sampler.plan.weights)
        epoch_of(ib, stream, epoch, Record())
        for ids in by_sampler.batch_sampler(16):
            by_sampler.update(losses_of(ids, epoch))


def test_of_a_sample_that_is_left_out_only_the_id_is_looked_at() -> None:
    ib = make()
    decoded: list[int] = []
    stage = ib.filter(id_of="id")
    for _ in range(2):
        decoded.clear()
        kept = len(ib.plan)
        for sample in stage(Records()):
            decoded.append(sample["id"])
        ib.update(losses_of(decoded, 0), decoded)
        assert len(decoded) == kept
    assert kept < N


@pytest.mark.parametrize("as_stored", [str, lambda id: f"{id:08d}", lambda id: str(id).encode()])
def test_digits_count_as_integers(as_stored: Any) -> None:
    ib = make()
    samples = [{"key": as_stored(id)} for id in range(N)]
    assert list(ib.filter(samples, "key")) == samples


@pytest.mark.parametrize(
    ("id", "kind", "says"),
    [
        (1.0, ValueError, "an id must be an integer, got 1.0"),
        (True, ValueError, "an id must be an integer, got True"),
        ("seven", ValueError, "an id must be an integer or its digits, got 'seven'"),
        ("-1", ValueError, "an id must be an integer or its digits, got '-1'"),
        (-1, IndexError, r"ids must be in \[0, 203\), got -1"),
        (N, IndexError, r"ids must be in \[0, 203\), got 203"),
    ],
)
def test_an_id_that_is_none_is_refused(id: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=f"InfoBatch.filter: {says}"):
        list(make().filter([{"id": id}], "id"))


def test_what_cannot_be_filtered_is_refused() -> None:
    ib = make()
    with pytest.raises(TypeError, match="id_of must be a function or a key, got None"):
        ib.filter(Records())
    with pytest.raises(TypeError, match="stream must be an iterable of samples, got int"):
        ib.filter(3, id_of)
    with pytest.raises(TypeError, match=r"no sample ids to score\. .*ib\.filter\(stream, id_of\)"):
        InfoBatch(iter([1]), EPOCHS)


def test_an_iterator_serves_one_epoch() -> None:
    ib = make()
    stream = ib.filter(iter(Records()), id_of)
    epoch_of(ib, stream, 0, Record())
    with pytest.raises(ValueError, match="stream must be what can be read once an epoch, got generator"):
        list(stream)
    stream = make().filter(iter([]), id_of)
    with whatever_it_warns_of():
        assert list(stream) == list(stream) == []  # there never was anything


def test_losses_without_ids_are_refused() -> None:
    ib = make()
    for samples in (ib.filter(Records(), id_of), ib.filter(Records(), id_of)):
        next(iter(samples))
        with pytest.raises(RuntimeError, match="losses of a filtered stream must come with ids, got none"):
            ib.update([1.0])
    ib.set_epoch(0)
    with pytest.raises(RuntimeError, match="must come with ids"):
        ib.observe([1.0])
    assert observed(ib) == {}


def test_an_iteration_that_was_overtaken_raises() -> None:
    ib = make()
    stream = ib.filter(Records(), id_of)
    first, second = iter(stream), iter(stream)
    next(first), next(second)
    with pytest.raises(RuntimeError, match="only one iteration of a run can be under way"):
        next(first)
    next(second)
    ib.set_epoch(1)
    with pytest.raises(RuntimeError, match="only one iteration"):
        next(second)


def test_what_an_epoch_that_broke_off_did_not_observe_keeps_its_score() -> None:
    ib, record = make(), Record()
    stream = ib.filter(Records(), id_of)
    epoch_of(ib, stream, 0, record)
    with nothing_to_warn_of():  # nobody knows what would have come
        for ids in batches(stream):
            ib.update(losses_of(ids, 1), ids)
            record.saw(ids, losses_of(ids, 1))
            break
        assert ib.epoch == 1
        epoch_of(ib, stream, 2, record)
        assert ib.statistics.epoch == 2
    record.check(ib)


def test_a_look_without_an_update_repeats_the_epoch() -> None:
    ib = make()
    stream = ib.filter(Records(), id_of)
    epoch_of(ib, stream, 0, Record())
    planned = in_stream_order(ib.plan.ids)
    next(iter(stream))
    with nothing_to_warn_of():
        assert [sample["id"] for sample in stream] == planned
    with pytest.warns(infobatch.UpdateForgottenWarning):
        assert [sample["id"] for sample in stream] == planned
    assert ib.epoch == 1


def test_an_epoch_that_was_set_is_begun_once() -> None:
    """On several ranks another beginning would be another exchange."""
    ib = make()
    stream = ib.filter(Records(), id_of)
    ib.set_epoch(0)
    begun = ib._here.board
    assert begun is not None
    turn = begun.turn
    epoch_of(ib, stream, 0, Record())
    assert begun.turn == turn


def test_a_filter_may_be_made_behind_set_epoch() -> None:
    ib = make()
    epoch_of(ib, ib.filter(Records(), id_of), 0, Record())
    later = make()
    later.load_state_dict(ib.state_dict())
    later.set_epoch(1)
    planned = in_stream_order(later.plan.ids)
    assert [sample["id"] for sample in elsewhere(later.filter(Records(), id_of))] == planned
    later = make()
    later.set_epoch(0)
    later.update([0.5], [7])
    with pytest.raises(RuntimeError, match="an epoch must be set before"):
        next(iter(elsewhere(later.filter(Records(), id_of))))  # nobody knows what of it is to come


# --- what is told of a stream


def test_samples_that_never_came_are_told_and_keep_their_scores() -> None:
    ib, record = make(), Record()
    lost = set(range(20, 50))
    epoch_of(ib, ib.filter(Records(), id_of), 0, record)
    planned = lost & set(ib.plan.ids)
    epoch_of(ib, ib.filter(Records(set(range(N)) - lost), id_of), 1, record)
    says = (
        rf"epoch 1 {len(planned)} of {len(ib.plan)} planned samples never came \(the first: {min(planned)}\)"
    )
    with pytest.warns(infobatch.StreamWarning, match=says):
        ib.set_epoch(2)
    record.check(ib)
    assert {observed(ib)[id] for id in planned} == {losses_of([id], 0)[0] for id in planned}
    epoch_of(ib, ib.filter(Records(range(5)), id_of), 2, record)
    with nothing_to_warn_of():  # once a run
        ib.set_epoch(3)


def test_without_set_epoch_the_next_iteration_tells() -> None:
    ib = make()
    stream = ib.filter(Records(range(50)), id_of)
    epoch_of(ib, stream, 0, Record())
    with pytest.warns(infobatch.StreamWarning, match=rf"epoch 0 {N - 50} of {N} planned samples never came"):
        next(iter(stream))


def test_samples_that_come_twice_are_told_and_the_last_loss_is_the_score() -> None:
    ib = make()
    samples = [*Records(), *Records(range(7))]
    ids = [sample["id"] for sample in ib.filter(samples, id_of)]
    assert len(ids) == N + 7
    ib.update([float(row) for row in range(len(ids))], ids)
    with pytest.warns(infobatch.StreamWarning, match="epoch 0 7 rows were samples that had come before"):
        ib.set_epoch(1)
    assert observed(ib) == {id: float(row) for row, id in enumerate(ids)}


def test_a_warning_that_is_an_error_leaves_the_epoch_as_it_was() -> None:
    ib = make()
    ids = [sample["id"] for sample in ib.filter(Records(range(9)), id_of)]
    ib.update(losses_of(ids, 0), ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error", infobatch.StreamWarning)
        with pytest.raises(infobatch.StreamWarning):
            ib.set_epoch(1)
        assert ib.epoch == 0
        ib.set_epoch(1)
    assert observed(ib) == dict(zip(ids, losses_of(ids, 0), strict=True))


# --- resume


@pytest.mark.parametrize("again", [None, 2])
def test_a_run_that_was_stopped_goes_on_with_what_is_not_observed(again: int | None) -> None:
    whole, record = make(), Record()
    stream = whole.filter(Records(), id_of)
    state: Any = None
    came: list[list[int]] = []
    for epoch in range(EPOCHS):
        came.append([])
        for step, ids in enumerate(batches(stream)):
            whole.update(losses_of(ids, epoch), ids)
            record.saw(ids, losses_of(ids, epoch))
            came[-1] += ids
            if (epoch, step) == (2, 3):
                state = whole.state_dict()
    resumed, rest = make(), Record()
    stream = resumed.filter(Records(), id_of)
    resumed.load_state_dict(state)
    with nothing_to_warn_of():
        for epoch in range(resumed.epoch, EPOCHS):
            if epoch == again:
                resumed.set_epoch(epoch)
            found = epoch_of(resumed, stream, epoch, rest)
            assert found == (came[2][64:] if epoch == 2 else came[epoch])
            assert resumed.epoch == epoch + 1
    whole.set_epoch(EPOCHS)
    resumed.set_epoch(EPOCHS)
    assert observed(resumed) == observed(whole)


# --- in another process


def elsewhere(made: Any) -> Any:
    """As a worker has it."""
    return pickle.loads(pickle.dumps(made))


def test_another_process_delivers_what_was_planned_when_the_epoch_was_set() -> None:
    ib = make()
    stream = ib.filter(Records(), id_of)
    worker = elsewhere(stream)
    with pytest.raises(RuntimeError, match=r"an epoch must be set before workers read.*set_epoch\(epoch\)"):
        list(worker)
    for epoch in range(3):
        ib.set_epoch(epoch)
        planned = in_stream_order(ib.plan.ids)
        ids = [sample["id"] for sample in worker]
        assert ids == planned
        ib.update(losses_of(ids, epoch), ids)
    assert len(planned) < N


def test_another_process_reads_an_epoch_once() -> None:
    ib = make()
    stage = elsewhere(ib.filter(id_of=id_of))
    ib.set_epoch(0)
    for allowed in range(2):
        assert len(list(stage(Records()))) == N
        with pytest.raises(RuntimeError, match=r"worker 0 must read the stream of an epoch once.*set_epoch"):
            next(stage(Records()))
        if allowed == 0:
            ib.set_epoch(0)  # nothing came back: it may be read once more
    ids = list(range(N))
    ib.update(losses_of(ids, 0), ids)
    with nothing_to_warn_of():  # what was read twice was delivered once
        ib.set_epoch(1)


@pytest.mark.parametrize("what", ["set_epoch", "load_state_dict", "discard_epoch"])
def test_who_reads_for_an_epoch_that_is_gone_is_refused(what: str) -> None:
    ib = make()
    ib.set_epoch(0)
    stream = ib.filter(Records(), id_of)
    worker = elsewhere(stream)
    ib.set_epoch(0)
    ib.set_epoch(1)
    reading = iter(worker)
    next(reading)
    if what == "set_epoch":
        ib.set_epoch(2)
    elif what == "discard_epoch":
        ib.discard_epoch()
    else:
        ib.load_state_dict(ib.state_dict())
    with pytest.raises(RuntimeError, match="the stream of epoch 1 must have been read before another epoch"):
        next(reading)
    if what != "set_epoch":
        with pytest.raises(RuntimeError, match="an epoch must be set"):
            next(iter(worker))


def test_an_epoch_that_could_not_be_put_up_can_be_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ib = make()
    stream = ib.filter(Records(), id_of)
    epoch_of(ib, stream, 0, Record())
    (folder,) = os.listdir(tmp_path)
    (tmp_path / folder / "kept.new").mkdir()
    with pytest.raises(infobatch.FileError, match="what workers are to deliver must be written to"):
        ib.set_epoch(1)
    with pytest.raises(RuntimeError, match="an epoch must be set"):
        next(iter(elsewhere(stream)))
    (tmp_path / folder / "kept.new").rmdir()
    ib.set_epoch(1)
    planned = in_stream_order(ib.plan.ids)
    assert [sample["id"] for sample in elsewhere(stream)] == planned
    assert len(planned) < N


def test_a_plain_copy_of_the_run_makes_no_filter() -> None:
    ib = make()
    with pytest.raises(RuntimeError, match=r"InfoBatch\.filter: must be called in the process that trains"):
        elsewhere(ib).filter(Records(), id_of)


def test_a_copy_of_a_pipeline_is_of_the_same_run() -> None:
    ib = make()
    pipeline = copy.deepcopy([ib.filter(id_of=id_of), ib.filter(Records(), id_of)])
    for epoch in range(2):
        planned = in_stream_order(ib.plan.ids)
        samples = pipeline[0](Records()) if epoch == 0 else pipeline[1]
        assert epoch_of(ib, samples, epoch, Record()) == planned


def test_a_copy_of_the_run_has_streams_of_its_own() -> None:
    ib = make()
    epoch_of(ib, ib.filter(Records(), id_of), 0, Record())
    twin = copy.deepcopy(ib)
    planned = in_stream_order(ib.plan.ids)
    assert epoch_of(twin, twin.filter(Records(), id_of), 1, Record()) == planned
    assert (ib.epoch, twin.epoch) == (1, 2)


def test_what_is_told_to_workers_goes_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ib = make()
    stream = ib.filter(Records(), id_of)
    ib.set_epoch(0)
    (folder,) = os.listdir(tmp_path)
    assert (tmp_path / folder / "kept").stat().st_size == 24 + -(-N // 8)
    for epoch in range(3):  # what a worker has told is gone with its epoch
        ib.set_epoch(epoch)
        assert sorted(os.listdir(tmp_path / folder)) == ["kept", "turn"]
        list(elsewhere(stream))
        assert len(os.listdir(tmp_path / folder)) == 3
    del ib, stream
    gc.collect()
    assert os.listdir(tmp_path) == []


# --- loaders of torch


def whole_batches(samples: list[dict[str, Any]]) -> Any:
    return torch.tensor([sample["id"] for sample in samples])


def loader_of(stream: Any, **options: Any) -> Any:
    return DataLoader(stream, batch_size=16, collate_fn=whole_batches, **options)


WORKERS = [
    pytest.param({"num_workers": 0}, id="none"),
    pytest.param({"num_workers": 1, "prefetch_factor": 8}, id="one, prefetch"),
    pytest.param({"num_workers": 3}, id="three"),
    pytest.param({"num_workers": 2, "persistent_workers": True, "prefetch_factor": 5}, id="persistent"),
    pytest.param(
        {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "spawn"}, id="spawn"
    ),
]


@needs_torch
@pytest.mark.parametrize("options", WORKERS)
def test_workers_deliver_the_plan_of_each_epoch(options: dict[str, Any]) -> None:
    ib, record = make(), Record()
    loader = loader_of(ib.filter(Records(), id_of), **options)
    with nothing_to_warn_of():
        for epoch in range(EPOCHS):
            if options["num_workers"]:
                ib.set_epoch(epoch)
            planned = sorted(ib.plan.ids)
            weights = weights_of(ib.plan)
            came: list[int] = []
            for ids in loader:
                losses = torch.tensor(losses_of(ids.tolist(), epoch))
                loss = ib.update(losses, ids)
                expected = (losses * torch.tensor([weights[i] for i in ids.tolist()])).mean()
                assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
                record.saw(ids.tolist(), losses.tolist())
                came += ids.tolist()
            assert sorted(came) == planned
            assert ib.epoch == epoch + 1
        record.check(ib)
    assert ib.get_pruned_count() > N // 4


@needs_torch
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_read_on_without_an_epoch_are_refused(persistent: bool) -> None:
    ib = make()
    loader = loader_of(ib.filter(Records(), id_of), num_workers=1, persistent_workers=persistent)
    with pytest.raises(RuntimeError, match="an epoch must be set before workers read its stream"):
        next(iter(loader))
    loader = loader_of(ib.filter(Records(), id_of), num_workers=2, persistent_workers=persistent)
    ib.set_epoch(0)
    for ids in loader:
        ib.update(torch.tensor(losses_of(ids.tolist(), 0)), ids)
    with pytest.raises(RuntimeError, match=r"worker \d must read the stream of an epoch once"):
        list(loader)


@needs_torch
def test_a_look_into_the_loader_is_followed_by_set_epoch() -> None:
    ib = make()
    loader = loader_of(ib.filter(Records(), id_of), num_workers=2, persistent_workers=True)
    ib.set_epoch(0)
    next(iter(loader))
    ib.set_epoch(0)
    assert sorted(torch.cat(list(loader)).tolist()) == list(range(N))


@needs_torch
@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_breaks_off_goes_on_with_the_next_epoch(persistent: bool) -> None:
    """Workers have run ahead by then: what they fetched for the old epoch is not delivered in the new one."""
    ib, record = make(), Record()
    loader = loader_of(
        ib.filter(Records(), id_of), num_workers=2, persistent_workers=persistent, prefetch_factor=4
    )
    with nothing_to_warn_of():
        for epoch in range(EPOCHS):
            ib.set_epoch(epoch)
            planned = set(ib.plan.ids)
            came: list[int] = []
            for step, ids in enumerate(loader):
                assert ib.epoch == epoch
                losses = losses_of(ids.tolist(), epoch)
                ib.update(torch.tensor(losses), ids)
                record.saw(ids.tolist(), losses)
                came += ids.tolist()
                if epoch in (1, 3) and step == 2:
                    break
            assert set(came) <= planned
            assert len(came) == (48 if epoch in (1, 3) else len(planned))
        record.check(ib)


@needs_torch
def test_workers_that_all_read_everything_are_told_of() -> None:
    ib = make()
    ib.set_epoch(0)
    for ids in loader_of(ib.filter(Records(divided=False), id_of), num_workers=2):
        ib.update(torch.tensor(losses_of(ids.tolist(), 0)), ids)
    says = rf"{N} rows were samples that had come before.*split_by_worker"
    with pytest.warns(infobatch.StreamWarning, match=says):
        ib.set_epoch(1)


@needs_torch
def test_a_compiled_step_over_a_stream_moves_epoch_and_progress() -> None:
    """There nobody counts what comes back: what was delivered counts."""
    ib, plain, record = make(), make(), Record()
    step = torch.compile(lambda losses, ids: ib.update(losses, ids), fullgraph=True, backend="eager")
    stream, by_lists = ib.filter(Records(), id_of), plain.filter(Records(), id_of)
    for epoch in range(3):
        size, came = len(ib.plan), 0
        for ids in batches(stream):
            losses = losses_of(ids, epoch)
            step(torch.tensor(losses), torch.tensor(ids))
            record.saw(ids, losses)
            came += len(ids)
            assert ib.progress == pytest.approx((epoch + came / size) / EPOCHS)
        assert ib.epoch == epoch + 1
        epoch_of(plain, by_lists, epoch, Record())
    record.check(ib)
    assert list(ib.plan.ids) == list(plain.plan.ids)


@needs_torch
def test_what_no_worker_delivered_is_told_where_all_have_read_to_the_end() -> None:
    ib = make()
    ib.set_epoch(0)
    for ids in loader_of(ib.filter(Records(end=150), id_of), num_workers=2):
        ib.update(torch.tensor(losses_of(ids.tolist(), 0)), ids)
    with pytest.warns(infobatch.StreamWarning, match=rf"{N - 150} of {N} planned samples never came"):
        ib.set_epoch(1)


@needs_torch
def test_a_dropped_tail_is_nothing_to_warn_of() -> None:
    ib = make()
    loader = loader_of(ib.filter(Records(), id_of), num_workers=2, drop_last=True)
    with nothing_to_warn_of():
        for epoch in range(3):
            ib.set_epoch(epoch)
            for ids in loader:
                ib.update(torch.tensor(losses_of(ids.tolist(), epoch)), ids)
            assert 0 < len(ib.plan) - ib._here.session.position < 32
        ib.set_epoch(3)


@needs_torch
def test_update_forgotten_in_a_loop_over_workers_is_told() -> None:
    ib = make()
    loader = loader_of(ib.filter(Records(), id_of), num_workers=2)
    ib.set_epoch(0)
    assert len(torch.cat(list(loader))) == N
    with pytest.warns(infobatch.UpdateForgottenWarning):
        ib.set_epoch(1)


@needs_torch
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_goes_on_with_what_is_not_observed(workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def made() -> tuple[InfoBatch, Any]:
        ib = make()
        stream = ib.filter(Records(), id_of)
        options: dict[str, Any] = {"num_workers": workers, "collate_fn": whole_batches}
        return ib, stateful.StatefulDataLoader(stream, batch_size=16, **options)

    ib, loader = made()
    ib.set_epoch(0)
    before: list[int] = []
    for ids in loader:
        ib.update(torch.tensor(losses_of(ids.tolist(), 0)), ids)
        before += ids.tolist()
        if len(before) == 64:
            break
    state = {"ib": ib.state_dict(), "loader": loader.state_dict()}
    ib, loader = made()
    ib.load_state_dict(state["ib"])
    loader.load_state_dict(state["loader"])
    ib.set_epoch(ib.epoch)
    after: list[int] = []
    with nothing_to_warn_of():
        for ids in loader:
            ib.update(torch.tensor(losses_of(ids.tolist(), 0)), ids)
            after += ids.tolist()
        ib.set_epoch(1)
    assert sorted(before + after) == list(range(N))
    assert observed(ib) == dict(zip(range(N), losses_of(range(N), 0), strict=True))


def test_a_lost_folder_is_made_anew_with_the_next_epoch() -> None:
    """Cleaners of temporary files take what nobody has touched for days."""
    ib, record = make(), Record()
    stream = ib.filter(Records(), id_of)
    board = ib._here.board
    assert board is not None
    worker: Any = pickle.loads(pickle.dumps(stream))
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)
        planned = list(ib.plan.ids)
        assert [sample["id"] for sample in worker] == in_stream_order(planned)
        if epoch in (1, 3):
            shutil.rmtree(board.folder)
        ib.set_epoch(epoch)
        if epoch == 2:
            shutil.rmtree(board.folder)
        assert epoch_of(ib, stream, epoch, record) == in_stream_order(planned)
        record.check(ib)
    shutil.rmtree(board.folder)
    with pytest.raises(
        RuntimeError, match=r"workers must find .*infobatch-.*set_epoch\(epoch\) makes it anew"
    ):
        list(worker)
    state = ib.state_dict()
    ib.load_state_dict(state)
    ib.discard_epoch()
    ib.set_epoch(ib.epoch)
    assert [sample["id"] for sample in worker] == in_stream_order(ib.plan.ids)


@needs_torch
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_go_on_where_the_folder_was_lost(persistent: bool) -> None:
    ib = make()
    loader = loader_of(ib.filter(Records(), id_of), num_workers=2, persistent_workers=persistent)
    board = ib._here.board
    assert board is not None
    for epoch in range(4):
        ib.set_epoch(epoch)
        planned = sorted(ib.plan.ids)
        came = list(loader)
        for ids in came:
            ib.update(torch.tensor(losses_of(ids.tolist(), epoch)), ids)
        assert sorted(torch.cat(came).tolist()) == planned
        if epoch == 1:
            shutil.rmtree(board.folder)


@pytest.mark.parametrize("id", ["img0", "-1", "\u00b2", b"x"])
def test_ids_of_other_characters_than_digits_are_refused(id: Any) -> None:
    ib = make()
    with pytest.raises(ValueError, match=r"an id must be an integer or its digits, got .*give a function"):
        list(ib.filter([{"key": id}], "key"))


def test_a_key_that_a_sample_lacks_is_named() -> None:
    with pytest.raises(KeyError, match=r"id_of must be a key of every sample.*'__key__'.*\['raw'\]"):
        list(make().filter([{"raw": 1}], "__key__"))
