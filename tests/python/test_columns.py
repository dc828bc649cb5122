"""What a run keeps of each sample beside its score: sampling weights, the record, a table of all of them;
and data sets that grow, shrink or move between two epochs."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loops import epoch_of_lists, losses_of, nothing_to_warn_of, observed

from infobatch import FileError, InfoBatch, StateChangedWarning

BALANCING = [1 / 10 if index % 10 == 0 else 1 / 90 for index in range(1000)]


def multiplicity(index: int) -> float:
    return BALANCING[index] * 1000 / sum(BALANCING)


def trained(size: int, epochs: int = 2, **options: Any) -> InfoBatch:
    ib = InfoBatch(size, num_epochs=8, seed=1, **options)
    for _ in range(epochs):
        epoch_of_lists(ib, 16)
    return ib


# --- sampling weights


@pytest.mark.parametrize("kind", ["strings", "dict", "generator", "none", "complex"])
def test_weights_that_are_no_numbers_are_refused(kind: str) -> None:
    values: Any = {
        "strings": ["a"] * 10,
        "dict": dict.fromkeys(range(10), 1.0),
        "generator": (1.0 + i for i in "x"),
        "none": [None] * 10,
        "complex": [1j] * 10,
    }[kind]
    with pytest.raises(
        ValueError, match=r"sampling_weights? must be one (number above 0|value) for each of 10"
    ):
        InfoBatch(10, num_epochs=8, sampling_weights=values)


def test_what_the_column_of_weights_lends_changes_no_plan() -> None:
    ib = InfoBatch(1000, num_epochs=8, seed=1, sampling_weights=BALANCING)
    lent = ib.column("sampling_weight")
    with suppress(TypeError, ValueError):  # read-only
        lent[3] = 100.0
    other = InfoBatch(1000, num_epochs=8, seed=1, sampling_weights=BALANCING)
    assert list(ib.plan.weights) == list(other.plan.weights)


def test_a_full_epoch_weighs_each_sample_by_its_multiplicity() -> None:
    ib = InfoBatch(1000, num_epochs=8, sampling_weights=BALANCING)
    weights = dict(zip(ib.plan.ids, ib.plan.weights, strict=True))
    assert len(weights) == 1000
    for index, weight in weights.items():
        assert weight == pytest.approx(multiplicity(index), rel=1e-6)


def test_both_classes_count_alike_and_the_common_one_is_left_out_more_often() -> None:
    ib = InfoBatch(20000, num_epochs=8, policy="random", sampling_weights=BALANCING * 20)
    epoch_of_lists(ib, 1000)
    plan = ib.plan
    sums, numbers = [0.0, 0.0], [0, 0]
    for index, weight in zip(plan.ids, plan.weights, strict=True):
        sums[index % 10 == 0] += weight
        numbers[index % 10 == 0] += 1
    assert sums == pytest.approx([10000, 10000], rel=0.05)
    assert numbers[True] == pytest.approx(1000, rel=0.15)  # of 2,000
    assert numbers[False] == pytest.approx(5000, rel=0.07)  # of 18,000


@pytest.mark.parametrize("kind", ["list", "numpy", "float64", "torch"])
def test_weights_come_as_what_people_have(kind: str) -> None:
    values: Any = BALANCING
    if kind in ("numpy", "float64"):
        np = pytest.importorskip("numpy")
        values = np.array(BALANCING, np.float32 if kind == "numpy" else np.float64)
    elif kind == "torch":
        values = pytest.importorskip("torch").tensor(BALANCING)
    ib = InfoBatch(1000, num_epochs=8, seed=3, sampling_weights=values)
    plain = InfoBatch(1000, num_epochs=8, seed=3, sampling_weights=BALANCING)
    assert ib.column_names == ["score", "sampling_weight"]
    assert list(ib.plan.weights) == list(plain.plan.weights)


def test_a_loss_is_the_mean_of_losses_times_these_weights() -> None:
    ib = InfoBatch(1000, num_epochs=8, sampling_weights=BALANCING)
    for ids in ib.batch_sampler(100):
        losses = losses_of(ids, 0)
        expected = sum(loss * multiplicity(index) for loss, index in zip(losses, ids, strict=True)) / 100
        assert ib.update(losses) == pytest.approx(expected, rel=1e-5)


def test_weights_that_cannot_be_are_refused_and_so_is_a_policy_that_does_not_rescale() -> None:
    for wrong, text in (
        ([0.0] * 10, "sampling_weight must be finite and above 0, got 0 at 0"),
        ([1.0] * 9 + [math.nan], "got nan at 9"),
        ([1.0] * 9, "one value for each of 10 samples"),
    ):
        with pytest.raises(ValueError, match=text):
            InfoBatch(10, num_epochs=8, sampling_weights=wrong)
    with pytest.raises(ValueError, match="a policy that rescales"):
        InfoBatch(10, num_epochs=8, policy="ucb", sampling_weights=[1.0] * 10)


def test_a_resumed_run_has_the_same_weights(tmp_path: Path) -> None:
    ib = InfoBatch(1000, num_epochs=8, seed=1, sampling_weights=BALANCING)
    epoch_of_lists(ib, 100)
    ib.save(tmp_path / "run")
    again = InfoBatch(1000, num_epochs=8, seed=1, sampling_weights=BALANCING)
    again.load(tmp_path / "run")
    assert list(again.plan.ids) == list(ib.plan.ids)
    assert list(again.plan.weights) == list(ib.plan.weights)
    with pytest.raises(ValueError, match="column sampling_weight: saved -> not set"):
        InfoBatch(1000, num_epochs=8, seed=1).load(tmp_path / "run")


# --- the record


def test_the_record_counts_what_the_plans_had() -> None:
    ib = InfoBatch(200, num_epochs=8, record=True)
    times, last = [0] * 200, [-1] * 200
    for epoch in range(8):
        assert [int(value) for value in ib.column("times_kept")] == times
        for index in epoch_of_lists(ib, 16):
            times[index] += 1
            last[index] = epoch
        ib.set_epoch(epoch + 1)
    assert [int(value) for value in ib.column("times_kept")] == times
    assert [int(value) for value in ib.column("last_kept")] == last
    assert min(times) < 8 == max(times)


def test_a_table_of_all_samples_is_read_back(tmp_path: Path) -> None:
    ib = InfoBatch(50, num_epochs=8, record=True, policy="ucb", columns={"class": list(range(50))})
    epoch_of_lists(ib, 16)
    ib.set_epoch(1)
    ib.export(tmp_path / "samples.csv")
    with open(tmp_path / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "score", "ema", "var", "times_kept", "last_kept", "class"]
    assert [int(row["id"]) for row in rows] == list(range(50))
    assert [float(row["score"]) for row in rows] == [float(score) for score in ib.scores]
    assert all(row["times_kept"] == "1" and row["last_kept"] == "0" for row in rows)


def test_the_same_table_for_numpy(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    ib = trained(50, epochs=1, record=True, columns={"class": np.arange(50, dtype=np.int16)})
    ib.export(tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as table:
        assert sorted(table.files) == sorted(["id", *ib.column_names])
        for name in ib.column_names:
            assert np.array_equal(table[name], np.asarray(ib.column(name)), equal_nan=True)
        assert table["class"].dtype == np.int16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.npz"]


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "kwds"])
def test_columns_of_any_name_are_in_the_table(name: str, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    ib = InfoBatch(4, num_epochs=8, columns={name: [5, 6, 7, 8]})
    ib.export(tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as table:
        assert sorted(table.files) == sorted(["id", "score", name])
        assert table[name].tolist() == [5, 6, 7, 8]
        assert table["id"].tolist() == [0, 1, 2, 3]


def test_the_name_of_the_ids_is_refused() -> None:
    with pytest.raises(ValueError, match='not "id" or "score", which are the engine\'s; got "id"'):
        InfoBatch(4, num_epochs=8, columns={"id": [5, 6, 7, 8]})


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_a_table_goes_where_a_link_says(ending: str, tmp_path: Path) -> None:
    if ending == ".npz":
        pytest.importorskip("numpy")
    (tmp_path / "there").mkdir()
    link, target = tmp_path / ("link" + ending), tmp_path / "there" / ("samples" + ending)
    target.write_text("old")
    link.symlink_to(target)
    trained(10).export(link)
    assert link.is_symlink()
    assert target.read_bytes() != b"old"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_behind_the_last_epoch_the_table_is_complete_when_it_is_left(tmp_path: Path) -> None:
    ib = InfoBatch(40, num_epochs=4, record=True)
    for _ in range(4):
        epoch_of_lists(ib, 16)
    ib.set_epoch(4)
    ib.export(tmp_path / "samples.csv")
    with open(tmp_path / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["last_kept"] for row in rows} == {"3"}
    assert max(int(row["times_kept"]) for row in rows) == 4


def test_a_table_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    ib = trained(10)
    with pytest.raises(ValueError, match=r"must end in \.csv or \.npz, got '.*samples.txt'"):
        ib.export(tmp_path / "samples.txt")
    with pytest.raises(FileError):
        ib.export(tmp_path / "none" / "samples.csv")
    pytest.importorskip("numpy")
    with pytest.raises(FileError):
        ib.export(tmp_path / "none" / "samples.npz")


# --- data sets that grow, shrink or move


@pytest.mark.parametrize("way", ["file", "state_dict"])
@pytest.mark.parametrize("size", [60, 100, 140])
def test_scores_follow_their_samples(size: int, way: str, tmp_path: Path) -> None:
    ib = trained(100, record=True)
    again = InfoBatch(size, num_epochs=8, seed=1, record=True)
    with nothing_to_warn_of():  # that the size differs was said
        if way == "file":
            ib.save(tmp_path / "run")
            report = again.load(tmp_path / "run", resize=True)
        else:
            report = again.load_state_dict(ib.state_dict(), resize=True)
    assert report.changes == (() if size == 100 else (f"size: 100 -> {size}",))
    assert again.epoch == 2
    again.set_epoch(2)
    ib.set_epoch(2)
    assert observed(again) == {index: score for index, score in observed(ib).items() if index < size}
    while again.epoch < 8:
        epoch_of_lists(again, 16)
    assert len(observed(again)) == size


def test_new_samples_are_kept_until_they_were_observed() -> None:
    again = InfoBatch(140, num_epochs=8, seed=1)
    again.load_state_dict(trained(100).state_dict(), resize=True)
    kept = dict(zip(again.plan.ids, again.plan.weights, strict=True))
    assert all(kept[index] == 1 for index in range(100, 140))
    assert len(kept) < 140


@pytest.mark.parametrize("kind", ["list", "numpy", "torch"])
def test_samples_that_have_moved_are_named(kind: str) -> None:
    origin: Any = [3, -1, 99]
    if kind == "numpy":
        origin = pytest.importorskip("numpy").array(origin)
    elif kind == "torch":
        origin = pytest.importorskip("torch").tensor(origin)
    ib = trained(100)
    again = InfoBatch(3, num_epochs=8, seed=1)
    again.load_state_dict(ib.state_dict(), resize=origin)
    ib.set_epoch(2)
    before = observed(ib)
    assert observed(again) == {0: before[3], 2: before[99]}


def test_what_cannot_be_resized_is_refused_and_changes_nothing() -> None:
    ib = trained(100)
    ids = next(iter(ib.batch_sampler(16)))
    ib.update(losses_of(ids, 2))
    again = trained(120, epochs=1)
    before = bytes(again.state_dict()["infobatch"])
    state = ib.state_dict()
    with pytest.raises(ValueError, match="between two epochs, got 16 of"):
        again.load_state_dict(state, resize=True)
    with pytest.raises(ValueError, match="size: 100 -> 120"):
        again.load_state_dict(state)
    ib.set_epoch(3)
    for wrong, text in (
        ([0] * 119, "for each of 120 samples"),
        ([0.5] * 120, r"an integer \(-1: it is new\), got 0.5"),
        ([True] * 120, "got True"),
        ([[0]] * 120, r"got \[0\]"),
        (1, "must be True, or .* got 1$"),
        (None, "got None"),
        ([2**64 - 1] * 120, "got 18446744073709551615"),
        ([100] * 120, r"in \[0, 100\), or -1 for a new one, got 100 at 0"),
    ):
        with pytest.raises(ValueError, match=text):
            again.load_state_dict(ib.state_dict(), resize=wrong)
    assert bytes(again.state_dict()["infobatch"]) == before


def test_what_else_differs_is_still_warned_of() -> None:
    again = InfoBatch(120, num_epochs=10, seed=1)
    with pytest.warns(StateChangedWarning, match="differs in epochs: 8 -> 10$"):
        again.load_state_dict(trained(100).state_dict(), resize=True)
