"""Loops of Accelerate with InfoBatch: whose samples a process has, accumulation, resume, what is refused."""

import importlib
import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from accelerate.utils import DataLoaderConfiguration
from accelerate_loop import BATCH, EPOCHS, MICRO, Loop, N, Stop
from processes import example, launch, without
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from infobatch import FullRunScheduler, InfoBatch, progress_lr
from infobatch.accelerate import Batches, figures, prepare


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps one state a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    AcceleratorState._reset_state(reset_partial_state=True)
    loop = Loop(rows=True)
    loop.train()
    return loop


def test_it_learns_and_saves(whole: Loop) -> None:
    assert whole.accuracy() > 0.95
    assert 0.12 < whole.logs[-1]["infobatch/saved"] < 0.4
    print(f"accuracy {whole.accuracy():.3f}, {whole.logs[-1]['infobatch/saved']:.1%} saved")


def test_each_iteration_is_an_epoch_and_its_length_is_right(whole: Loop) -> None:
    for epoch in range(EPOCHS):
        ids = whole.ids_of(epoch)
        assert len(set(ids)) == len(ids) == whole.logs[epoch]["infobatch/kept"]
        assert (len(ids) == N) == (epoch in (0, 7))
        assert whole.lengths[epoch] == (ceil(len(ids) / BATCH),) * 2
        assert whole.gathered[epoch] == ids
    # The last update of an epoch comes though its micro-batches are fewer.
    assert whole.updates == sum(ceil(batches / MICRO) for batches, _ in whole.lengths)
    assert whole.updates < EPOCHS * ceil(ceil(N / BATCH) / MICRO)


def test_what_it_computes_is_what_a_plain_loop_computes(whole: Loop) -> None:
    loop = Loop()
    run, net = InfoBatch(N, EPOCHS, seed=3), loop.accelerator.unwrap_model(loop.model)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    schedule = progress_lr(optimizer, run, lambda progress: 1 - progress)
    for _ in range(EPOCHS):
        batches = run.batch_sampler(BATCH)
        last = len(batches)
        for number, ids in enumerate(batches, 1):
            each = cross_entropy(net(loop.inputs[ids]), loop.labels[ids], reduction="none")
            (run.update(each, torch.tensor(ids)) / MICRO).backward()
            if number % MICRO == 0 or number == last:
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    assert torch.allclose(torch.tensor(loop.parameters()), torch.tensor(whole.parameters()), atol=1e-5)


def test_the_learning_rate_ends_at_its_end(whole: Loop) -> None:
    assert whole.rates == sorted(whole.rates, reverse=True)
    assert whole.rates[0] > 0.018
    assert whole.rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_schedule_that_counts_steps_is_prepared_and_saved(tmp_path: Path) -> None:
    def made() -> Loop:
        loop = Loop()
        steps = loop.run.max_steps(BATCH * MICRO)
        cycle = OneCycleLR(loop.optimizer.optimizer, 0.1, total_steps=steps)
        loop.schedule = loop.accelerator.prepare(FullRunScheduler(cycle, loop.run, steps))
        return loop

    alone, stopped, resumed = made(), made(), made()
    alone.train()
    assert max(alone.rates) == pytest.approx(0.1, rel=0.02)
    assert alone.rates[-1] == pytest.approx(0.1 / 25 / 1e4, rel=1e-3)
    with pytest.raises(Stop):
        stopped.train(tmp_path / "state", save=20, stop=True)
    resumed.accelerator.load_state(str(tmp_path / "state"))
    resumed.train()
    assert stopped.rates + resumed.rates == alone.rates


def test_a_tracker_shows_the_figures(whole: Loop) -> None:
    class Kept(GeneralTracker):
        name, requires_logging_directory, tracker = "kept", False, None
        shown: list[Any] = []  # noqa: RUF012 - of this test alone

        def log(self, values: Any, step: Any = None, **options: Any) -> None:
            self.shown.append((step, values))

    accelerator = Accelerator(cpu=True, log_with=[Kept()])
    accelerator.init_trackers("test")
    accelerator.log(figures(whole.run), step=5)
    (step, values), *_ = Kept.shown
    assert step == 5
    assert values["infobatch/saved"] > 0.1
    assert whole.logs[3]["infobatch/kept"] < N
    assert "infobatch/mean_score" not in whole.logs[0]
    assert whole.logs[3]["infobatch/mean_score"] > 0


@pytest.mark.parametrize("update", [4, 13, 20, 75])
def test_resumed_is_never_stopped(update: int, whole: Loop, tmp_path: Path) -> None:
    update = min(update, whole.updates - 1)
    stopped = Loop()
    with pytest.raises(Stop):
        stopped.train(tmp_path / "state", save=update, stop=True)
    resumed = Loop(rows=True)
    resumed.accelerator.load_state(str(tmp_path / "state"))
    resumed.train()
    assert stopped.noted + resumed.noted == whole.noted
    assert stopped.rates + resumed.rates == whole.rates
    assert resumed.parameters() == whole.parameters()
    assert torch.equal(resumed.run.scores, whole.run.scores)


def test_resumed_at_the_end_of_an_epoch(whole: Loop, tmp_path: Path) -> None:
    ends = [0]
    for batches, _ in whole.lengths:
        ends.append(ends[-1] + ceil(batches / MICRO))
    test_resumed_is_never_stopped(ends[3], whole, tmp_path)


def test_a_loader_that_skips_once_more_is_refused(tmp_path: Path) -> None:
    stopped, resumed = Loop(), Loop()
    with pytest.raises(Stop):
        stopped.train(tmp_path / "state", save=4, stop=True)
    resumed.accelerator.load_state(str(tmp_path / "state"))
    before = resumed.run.state_dict()["infobatch"]
    loader = resumed.accelerator.skip_first_batches(resumed.loader, 8)
    with pytest.raises(RuntimeError, match=r"skip_first_batches must not be called.*the rest of the epoch"):
        next(iter(loader))
    assert torch.equal(resumed.run.state_dict()["infobatch"], before)


def test_bf16(whole: Loop) -> None:
    loop = Loop(mixed_precision="bf16")
    loop.train()
    assert loop.accuracy() > 0.95
    assert 0.12 < loop.logs[-1]["infobatch/saved"] < 0.4
    assert loop.ids_of(0) == whole.ids_of(0)
    assert loop.parameters() != whole.parameters()


def test_workers_and_drop_last(whole: Loop) -> None:
    loop = Loop(rows=True, drop_last=True, workers=1)
    loop.train()
    assert {len(ids) for _, ids, _ in loop.noted} == {BATCH}
    for epoch in range(EPOCHS):
        assert loop.lengths[epoch] == (int(loop.logs[epoch]["infobatch/kept"]) // BATCH,) * 2
        assert loop.gathered[epoch] == loop.ids_of(epoch)
    assert loop.run.statistics.dropped_total == 0


# --- what processes get


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [3, 8, 23, 24, 25, 31, 32, 33])
def test_a_last_round_is_shared_out_evenly(size: int, processes: int, drop_last: bool) -> None:
    batches = Batches(size, 4, drop_last, processes)
    batches.infobatch = run = InfoBatch(size, 8, seed=1)
    delivered = list(batches)
    assert len(delivered) == len(batches) == batches.rounds() * processes
    for begin in range(0, len(delivered), processes):
        assert len({len(batch) for batch in delivered[begin : begin + processes]}) == 1
    rows = [id for batch in delivered for id in batch]
    if drop_last:
        assert len(rows) == len(set(rows)) == size // (4 * processes) * 4 * processes
    else:
        assert len(set(rows)) == size
        assert len(rows) - size < processes
        assert rows[:size] == run.plan.ids.tolist()  # what comes once more is at the end


def test_two_processes_share_a_run_and_resume_it(tmp_path: Path) -> None:
    first, second = launch("accelerate_loop.py", 2, tmp_path)
    for name in ("parameters", "scores", "logs", "lengths", "updates", "gathered"):
        assert first[name] == second[name]
    assert first["accuracy"] > 0.95
    assert 0.12 < first["logs"][-1]["infobatch/saved"] < 0.4
    for epoch in range(EPOCHS):
        shares = [
            [(ids, weights) for number, ids, weights in found["noted"] if number == epoch]
            for found in (first, second)
        ]
        kept = first["logs"][epoch]["infobatch/kept"]
        delivered = [id for share in shares for ids, _ in share for id in ids]
        assert len(set(delivered)) == kept
        assert kept <= len(delivered) <= kept + 1
        assert [len(ids) for ids, _ in shares[0]] == [len(ids) for ids, _ in shares[1]]
        assert first["lengths"][epoch] == (ceil(kept / (2 * BATCH)),) * 2
        # gather_for_metrics leaves out what came once more.
        assert len(first["gathered"][epoch]) == kept
        assert set(first["gathered"][epoch]) == set(delivered)
    assert not any(score != score for score in first["scores"])
    assert first["rates"][-1] == pytest.approx(0, abs=2e-4)
    for found in (first, second):
        for name in ("noted", "rates"):
            rest = found["resumed"][name]
            assert 0 < len(rest) < len(found[name])
            assert rest == found[name][-len(rest) :]
        epoch = found["resumed"]["noted"][0][0]  # which the checkpoint was in the midst of
        counts = [sum(note[0] == epoch for note in notes["noted"]) for notes in (found["resumed"], found)]
        assert 0 < counts[0] < counts[1]
        assert found["resumed"]["parameters"] == found["parameters"]
        assert found["resumed"]["scores"] == found["scores"]
        assert "split='global'" in found["refused"]


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_batches": True}, "split_batches must be False"),
        ({"dispatch_batches": True}, "dispatch_batches must be False"),
        ({"use_stateful_dataloader": True}, "use_stateful_dataloader must be False"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    configuration = DataLoaderConfiguration()
    for name, value in settings.items():  # set behind the checks of other packages
        setattr(configuration, name, value)
    accelerator = Accelerator(cpu=True, dataloader_config=configuration)
    with pytest.raises(ValueError, match=message):
        prepare(accelerator, InfoBatch(4, 8), range(4), 2)


def test_data_that_does_not_fit_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    with pytest.raises(ValueError, match="must have the 4 samples of the run, got 5"):
        prepare(accelerator, InfoBatch(4, 8), range(5), 2)
    with pytest.raises(TypeError, match="no sample ids"):
        prepare(accelerator, InfoBatch(4, 8), iter(range(4)), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
        prepare(accelerator, InfoBatch(4, 8), range(4), 0)


def test_without_accelerate_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without("accelerate", monkeypatch)
    with pytest.raises(
        ImportError, match=r"^infobatch\.accelerate: needs Accelerate.*infobatch\[accelerate\]"
    ):
        importlib.import_module("infobatch.accelerate")


def test_the_example(tmp_path: Path) -> None:
    output = example("accelerate_loop.py", tmp_path)
    kept = [float(count) for count in re.findall(r"'infobatch/kept': ([\d.]+)", output)]
    batches = [int(count) for count in re.findall(r"'batches': (\d+)", output)]
    assert len(kept) == 8
    assert kept[0] == kept[7] == 2000
    assert max(kept[1:7]) < 1800
    assert batches == [ceil(count / 32) for count in kept]
    found = re.search(r"accuracy (\S+) with (\S+)% saved, rate (\S+) at the end", output)
    assert float(found[1]) > 0.9
    assert float(found[2]) > 10
    assert float(found[3]) == 0
