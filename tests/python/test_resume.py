"""State: a run that was interrupted anywhere and goes on equals one that never stopped, to the bit; also when
it was killed, from files, and across from C++ to Python and back."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loops import (
    Numbers,
    Record,
    batches_of_rows,
    epoch_of_lists,
    losses_of,
    nothing_to_warn_of,
    observed,
    whatever_it_warns_of,
)
from server import run_program

from infobatch import InfoBatch

try:
    import torch
    from torch.utils.data import DataLoader
except ImportError:  # the tests that need it are skipped then
    pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Log = list[tuple[int, tuple[int, ...], Any]]


def batches_of(ib: InfoBatch, rows: bool, batch_size: int) -> Iterator[list[int]]:
    return batches_of_rows(ib.sampler, batch_size) if rows else iter(ib.batch_sampler(batch_size))


def run(ib: InfoBatch, log: Log, epochs: int, stop: int | None = None, **how: Any) -> None:
    """Trains until the run's end, or until the log has `stop` steps. Weighted losses are in it."""
    ahead, rows, batch_size = how.get("ahead", 0), how.get("rows", False), how.get("batch_size", 16)
    while ib.epoch < epochs:
        epoch = ib.epoch
        source, flight = batches_of(ib, rows, batch_size), []
        while True:
            while len(flight) <= ahead and (ids := next(source, None)):
                flight.append(ids)
            if not flight:
                break
            ids = flight.pop(0)
            log.append((epoch, tuple(ids), list(ib.update(losses_of(ids, epoch), reduction="none"))))
            if len(log) == stop:
                return


@pytest.mark.parametrize("rows", [False, True], ids=["batches", "rows"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_stopped_anywhere_equals_never_stopped(rows: bool, ahead: int) -> None:
    """With `ahead`, batches are out when the run is stopped: they come again."""
    how = {"rows": rows, "ahead": ahead}
    whole: Log = []
    never = InfoBatch(120, 5, seed=9)
    with nothing_to_warn_of():
        run(never, whole, 5, **how)
        for stop in range(1, len(whole)):
            log: Log = []
            first = InfoBatch(120, 5, seed=9)
            run(first, log, 5, stop, **how)
            second = InfoBatch(120, 5, seed=9)
            report = second.load_state_dict(first.state_dict())
            assert report.changes == ()
            run(second, log, 5, **how)
            assert log == whole, f"stopped behind step {stop}"
            assert observed(second) == observed(never)
            assert second.get_pruned_count() == never.get_pruned_count()


def test_stopped_behind_every_step_equals_never_stopped() -> None:
    whole: Log = []
    run(InfoBatch(60, 5, seed=9), whole, 5, batch_size=7)
    log: Log = []
    state = InfoBatch(60, 5, seed=9).state_dict()
    while True:
        ib = InfoBatch(60, 5, seed=9)
        ib.load_state_dict(state)
        if ib.epoch == 5:
            break
        run(ib, log, 5, len(log) + 1, batch_size=7)
        state = ib.state_dict()
    assert log == whole


def test_taking_the_state_changes_nothing() -> None:
    def weighted(looking: bool) -> Log:
        ib, log = InfoBatch(60, 5, seed=9), []
        while ib.epoch < 5:
            for ids in ib.batch_sampler(7):
                if looking:
                    ib.state_dict()
                log.append((ib.statistics.epoch, tuple(ids), ib.update(losses_of(ids, 1))))
                if looking:
                    assert ib.state_dict()["infobatch"] is not None
        return log

    assert weighted(looking=True) == weighted(looking=False)


def test_a_state_knows_of_rows_that_were_just_pulled() -> None:
    """A loader of somebody else's pulls them without a word: they are in flight, and the state says so."""
    states = []
    for asked in (False, True):
        ib = InfoBatch(60, 5, seed=9)
        batches = batches_of_rows(ib.sampler, 7)
        for _ in range(3):
            ib.update(losses_of(next(batches), 0))
        next(batches)
        if asked:
            assert ib.statistics.epoch == 0  # which tells the engine of them
        states.append(bytes(ib.state_dict()["infobatch"]))
    assert states[0] == states[1]


def test_a_resumed_run_may_go_on_with_another_batch_size() -> None:
    first = InfoBatch(120, 5, seed=9)
    epoch_of_lists(first, 16)
    rest = list(first.plan.ids)
    batches = iter(first.batch_sampler(16))
    for _ in range(2):
        ids = next(batches)
        first.update(losses_of(ids, 1))
    second = InfoBatch(120, 5, seed=9)
    second.load_state_dict(first.state_dict())
    record = Record()
    assert epoch_of_lists(second, 10, record) == rest[32:]
    assert second.epoch == 2
    found = observed(second) if len(second.sampler) else {}
    assert {i: found[i] for i in rest} == dict(zip(rest, losses_of(rest, 1), strict=True))


@pytest.mark.one_environment("lists alone; kills with stateful loaders do the same everywhere")
def test_an_iterator_that_is_restored_goes_on_with_its_run() -> None:
    """What a stateful loader does: the iterator's state beside the run's, at every step."""

    def run_by(
        make: Callable[[InfoBatch], Any], ib: InfoBatch, iterator: Any, log: Log, stop: int = -1
    ) -> Any:
        while ib.epoch < 4:
            for batch in iterator:
                epoch = ib.epoch
                ids = [batch] if isinstance(batch, int) else batch
                log.append((epoch, tuple(ids), ib.update(losses_of(ids, epoch))))
                if len(log) == stop:
                    return iterator.state_dict()
            iterator = make(ib)
        return None

    makers: list[Callable[[InfoBatch], Any]] = [
        lambda ib: iter(ib.sampler),
        lambda ib: iter(ib.batch_sampler(16)),
    ]
    for make in makers:
        whole: Log = []
        ib = InfoBatch(50, 4, seed=9)
        run_by(make, ib, make(ib), whole)
        for stop in range(1, len(whole)):
            log: Log = []
            ib = InfoBatch(50, 4, seed=9)
            position = run_by(make, ib, make(ib), log, stop)
            assert all(isinstance(value, int) for value in position.values())
            other = InfoBatch(50, 4, seed=9)
            fresh = make(other)
            fresh.load_state_dict(position)
            with pytest.raises(ValueError, match="same step"):
                next(fresh)
            other.load_state_dict(ib.state_dict())
            restored = make(other)
            restored.load_state_dict(position)
            if position["position"] == position["length"]:
                assert list(restored) == []  # its epoch is over, and the next one is another iteration's
                restored = make(other)
            run_by(make, other, restored, log)
            assert log == whole, f"stopped behind step {stop}"


@pytest.mark.parametrize("rows", [False, True], ids=["batches", "rows"])
def test_an_epoch_observed_by_ids_goes_on_with_what_is_still_due(rows: bool) -> None:
    first = InfoBatch(60, 5, seed=9)
    plan = list(first.plan.ids)
    batches = batches_of(first, rows, 10)
    held = [next(batches) for _ in range(4)]
    observed_ids = [*held[2][::-1], *held[0][3:6]]  # batches out of order, and a part of one
    first.update(losses_of(observed_ids[:10], 0), observed_ids[:10])
    first.update(losses_of(observed_ids[10:], 0), observed_ids[10:])
    second = InfoBatch(60, 5, seed=9)
    second.load_state_dict(first.state_dict())
    pending = []
    for ids in batches_of(second, rows, 10):
        second.update(losses_of(ids, 0), ids)
        pending += ids
    assert pending == [i for i in plan if i not in observed_ids]
    assert second.epoch == 1
    len(second.sampler)
    assert observed(second) == dict(zip(plan, losses_of(plan, 0), strict=True))


def test_the_states_of_samplers_are_compared_and_move_nothing() -> None:
    ib = InfoBatch(50, 4, seed=9)
    for sampler in (ib.sampler, ib.batch_sampler(8)):
        state = sampler.state_dict()
        epoch_of_lists(ib, 10)
        epoch = ib.epoch
        sampler.load_state_dict(state)
        assert ib.epoch == epoch
        with pytest.raises(ValueError, match="50 samples, got 51"):
            sampler.load_state_dict({**state, "size": 51})
    begun = iter(ib.sampler)
    next(begun)
    with pytest.raises(RuntimeError, match="before the first pull"):
        begun.load_state_dict(begun.state_dict())


@pytest.mark.parametrize("stop", [0, 1, 5, 8, 11])
def test_a_file_holds_what_the_state_dict_holds(tmp_path: Path, stop: int) -> None:
    path = tmp_path / "run.safetensors"
    ib = InfoBatch(120, 5, seed=9)
    log: Log = []
    if stop:
        run(ib, log, 5, stop)
    for name in (path, str(path)):
        ib.save(name)
    packed = ib.state_dict()["infobatch"]
    assert path.read_bytes() == (packed if isinstance(packed, bytes) else packed.numpy().tobytes())
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]
    twins = [InfoBatch(120, 5, seed=9) for _ in range(2)]
    reports = twins[0].load(path), twins[1].load_state_dict(ib.state_dict())
    assert reports[0] == reports[1]
    logs: list[Log] = [list(log), list(log)]
    for twin, its in zip(twins, logs, strict=True):
        run(twin, its, 5)
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="seed"):
        InfoBatch(120, 5, seed=10).load(path)


def test_a_load_leaves_an_iteration_that_is_under_way() -> None:
    ib = InfoBatch(120, 5, seed=9)
    state = ib.state_dict()
    batches = iter(ib.batch_sampler(16))
    ids = next(batches)
    ib.update(losses_of(ids, 0))
    ib.load_state_dict(state)
    with pytest.raises(RuntimeError, match="a load"):
        next(batches)
    assert next(iter(ib.batch_sampler(16))) == ids


# --- torch


@pytest.mark.torch
def test_a_state_passes_through_a_file_of_torch_with_weights_only() -> None:
    ib = InfoBatch(96, 8, seed=1)
    for ids in ib.batch_sampler(24):
        ib.update(torch.tensor(ids) / 1000)
    file = io.BytesIO()
    torch.save({"run": ib.state_dict(), "iterator": iter(ib.sampler).state_dict()}, file)
    file.seek(0)
    other = InfoBatch(96, 8, seed=1)
    state = torch.load(file, weights_only=True)
    report = other.load_state_dict(state["run"])
    assert (report.epoch, report.position, report.changes) == (0, 96, ())
    assert list(other.batch_sampler(24)) == list(ib.batch_sampler(24))
    assert copy.deepcopy(state)["run"]["infobatch"].dtype == torch.uint8
    with pytest.raises(ValueError, match="one tensor of bytes"):
        other.load_state_dict({"infobatch": torch.zeros(3)})
    with pytest.raises(RuntimeError, match="load_state_dict"):
        other.load_state_dict({"infobatch": torch.zeros(300, dtype=torch.uint8)})


@pytest.mark.torch
def test_a_state_without_torch_is_bytes_that_one_with_torch_reads() -> None:
    program = """
import sys
sys.modules["torch"] = None
from infobatch import InfoBatch
ib = InfoBatch(60, 5, seed=9)
for ids in ib.batch_sampler(7):
    ib.update([i / 64 for i in ids])
sys.stdout.buffer.write(ib.state_dict()["infobatch"])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=60, check=True
    )
    ib = InfoBatch(60, 5, seed=9)
    report = ib.load_state_dict({"infobatch": done.stdout})
    assert (report.epoch, report.position) == (0, 60)
    len(ib.sampler)
    assert observed(ib) == {i: i / 64 for i in range(60)}


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("by", ["sampler", "batch_sampler"])
def test_a_loader_that_is_started_anew_for_the_rest_delivers_what_was_in_flight_again(
    by: str, workers: int
) -> None:
    def loader_of(ib: InfoBatch) -> Any:
        if by == "sampler":
            return DataLoader(ib, 16, sampler=ib.sampler, num_workers=workers)
        return DataLoader(ib, batch_sampler=ib.batch_sampler(16), num_workers=workers)

    def train(ib: InfoBatch, log: Log, stop: int | None = None) -> None:
        while ib.epoch < 3:
            for ids in loader_of(ib):
                epoch = ib.statistics.epoch
                losses = (8 * ids + epoch) / 4096
                log.append((epoch, tuple(ids.tolist()), ib.update(losses, reduction="none").tolist()))
                if len(log) == stop:
                    return

    whole: Log = []
    with nothing_to_warn_of():
        train(InfoBatch(Numbers(130), 4, seed=9), whole)
        for stop in range(1, len(whole), 1 if workers == 0 else 5):
            log: Log = []
            first = InfoBatch(Numbers(130), 4, seed=9)
            train(first, log, stop)
            second = InfoBatch(Numbers(130), 4, seed=9)
            second.load_state_dict(first.state_dict())
            train(second, log)
            assert log == whole, f"stopped behind step {stop}"


# --- SIGKILL


LOADERS = ["sampler", "batch_sampler", "stateful_sampler", "stateful_batch_sampler"]
#: Beside every torch each loader is killed either without workers or with them, here both.
EVERYWHERE = {("sampler", 2), ("batch_sampler", 0), ("stateful_sampler", 0), ("stateful_batch_sampler", 2)}
KILLED = [
    pytest.param(
        loader,
        workers,
        marks=()
        if (loader, workers) in EVERYWHERE
        else pytest.mark.one_environment("the other loaders are killed with as many workers"),
    )
    for workers in (0, 2)
    for loader in LOADERS
]


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where trainer.py has trained with every loader that a test asks for, and what it complained of."""
    folder = tmp_path_factory.mktemp("killed")
    asking = [item.callspec.params for item in request.session.items if "killed" in item.fixturenames]
    names = [f"{chosen['loader']}:{chosen['workers']}" for chosen in asking]
    if importlib.util.find_spec("torchdata") is None:
        names = [name for name in names if not name.startswith("stateful_")]
    trainer = Path(__file__).with_name("trainer.py")
    return folder, run_program(trainer, str(folder), "7", *names, folder=folder).stderr


@pytest.mark.torch
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("loader", "workers"), KILLED)
def test_a_training_that_is_killed_at_random_steps_equals_one_that_never_stopped(
    killed: tuple[Path, str], loader: str, workers: int
) -> None:
    if loader.startswith("stateful_"):
        pytest.importorskip("torchdata.stateful_dataloader")
    folder, complaints = killed
    folder /= f"{loader}:{workers}"
    assert (folder / "kills").exists(), complaints
    kills = int((folder / "kills").read_text())
    assert kills >= 4
    whole = (folder / "whole").read_text().splitlines()
    log = (folder / "log").read_text().splitlines()
    assert len({line.split()[0] for line in whole}) == len(whole) > 50
    # A step behind which the process was killed before it was saved is made again, and is the same.
    assert list(dict.fromkeys(log)) == whole
    assert len(log) <= len(whole) + kills


# --- files of the C++ library

RUN = ("500", "6", "7", "32")  # size, epochs, seed, batch


def in_cpp(exchange: Path, source: Path | None, target: Path, steps: int) -> list[str]:
    """Makes steps in the C++ program, from file to file; returns its lines."""
    arguments = [*RUN, source or "-", target, str(steps)]
    done = subprocess.run([exchange, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def in_python(source: Path | None, target: Path, steps: int, rows: bool = False) -> list[str]:
    """The same in Python."""
    size, epochs, seed, batch_size = map(int, RUN)
    ib = InfoBatch(size, epochs, seed=seed, columns={"class": [i % 10 for i in range(size)]})
    if source is not None:
        assert ib.load(source).changes == ()
    lines: list[str] = []
    while len(lines) < steps and ib.epoch < epochs:
        for ids in batches_of(ib, rows, batch_size):
            epoch = ib.statistics.epoch
            weighted = ib.update(losses_of(ids, epoch), reduction="none")
            samples = [
                f"{i}:{struct.unpack('<I', struct.pack('<f', x))[0]:08x}"
                for i, x in zip(ids, weighted, strict=True)
            ]
            lines.append(f"{epoch} {' '.join(samples)}")
            if len(lines) == steps:
                break
    ib.save(target)
    return lines


def test_cpp_and_python_train_alike_to_the_bit(exchange: Path, tmp_path: Path) -> None:
    files = tmp_path / "cpp", tmp_path / "python"
    cpp, python = in_cpp(exchange, None, files[0], 1000), in_python(None, files[1], 1000)
    assert len(cpp) > 60
    assert cpp == python


@pytest.mark.parametrize("first", ["cpp", "python"])
@pytest.mark.parametrize("stop", [1, 7, 15, 16, 17, 25, 40])
def test_a_file_of_the_one_is_gone_on_with_in_the_other(
    exchange: Path, tmp_path: Path, first: str, stop: int
) -> None:
    file, end, whole = tmp_path / "file", tmp_path / "end", tmp_path / "whole"
    expected = in_cpp(exchange, None, whole, 1000)
    if first == "cpp":
        lines = in_cpp(exchange, None, file, stop) + in_python(file, end, 1000)
    else:
        lines = in_python(None, file, stop) + in_cpp(exchange, file, end, 1000)
    assert lines == expected
    with whatever_it_warns_of():
        ends = [InfoBatch(500, 6, seed=7, columns={"class": [i % 10 for i in range(500)]}) for _ in range(2)]
        for ib, path in zip(ends, (end, whole), strict=True):
            ib.load(path)
            len(ib.sampler)
        assert observed(ends[0]) == observed(ends[1])


def test_a_file_may_go_to_and_fro_between_the_two(exchange: Path, tmp_path: Path) -> None:
    rng, file, lines = random.Random(3), tmp_path / "file", []
    source = None
    for turn in range(40):
        make = in_python if turn % 2 else lambda *rest: in_cpp(exchange, *rest)
        lines += make(source, file, rng.randint(1, 5))
        source = file
    assert lines == in_cpp(exchange, None, tmp_path / "whole", 1000)[: len(lines)]
    assert len(lines) > 60


def test_a_run_with_another_column_is_refused_by_the_other_side(exchange: Path, tmp_path: Path) -> None:
    in_cpp(exchange, None, tmp_path / "file", 5)
    with pytest.raises(ValueError, match="class"):
        InfoBatch(500, 6, seed=7).load(tmp_path / "file")
    InfoBatch(500, 6, seed=7).save(tmp_path / "other")
    done = subprocess.run(
        [exchange, *RUN, tmp_path / "other", tmp_path / "end", "5"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "class" in done.stderr


@pytest.mark.torch
def test_a_mean_is_equal_to_the_bit_wherever_a_run_is_resumed() -> None:
    """A product adds up by where its rows lie in memory: batches of 37, so that they lie anywhere."""

    def steps(ib: InfoBatch) -> Any:
        for ids in ib.batch_sampler(37):
            yield ib.update(torch.rand(len(ids), generator=rng)).item()

    rng = torch.Generator().manual_seed(0)
    run = InfoBatch(1000, 4, seed=1)
    list(steps(run))
    expected, states = [], []
    for loss in steps(run):
        expected.append(loss)
        states.append((run.state_dict(), rng.get_state()))
    for at, (state, random_state) in enumerate(states[:-1], 1):
        resumed = InfoBatch(1000, 4, seed=1)
        resumed.load_state_dict(state)
        rng.set_state(random_state)
        assert list(steps(resumed)) == expected[at:]
