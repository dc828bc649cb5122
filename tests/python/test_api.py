"""The package without a framework: a loop over lists, options, refusals, columns, copies, warnings."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

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

import infobatch
from infobatch import Indexed, InfoBatch


def run_to_the_end(ib: InfoBatch, epochs: int, batch_size: int = 16) -> Record:
    record = Record()
    while ib.epoch < epochs:
        epoch_of_lists(ib, batch_size, record)
    return record


# --- names


def test_all_names_exist() -> None:
    from importlib.util import find_spec

    for name in infobatch.__all__:
        if name == "scale_gradient" and find_spec("torch") is None:
            continue
        assert getattr(infobatch, name) is not None
    assert set(dir(infobatch)) >= set(infobatch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'InfoBach'"):
        infobatch.InfoBach  # noqa: B018


def test_the_package_works_where_neither_torch_nor_numpy_can_be_imported() -> None:
    """What a list becomes without NumPy is code of its own."""
    program = """
import sys
sys.modules["numpy"] = sys.modules["torch"] = None
from infobatch import InfoBatch
ib = InfoBatch(100, 8, seed=3, columns={"class": [i % 3 for i in range(100)], "size": [0.5] * 100})
assert list(ib.column("class")) == [i % 3 for i in range(100)], list(ib.column("class"))
assert list(ib.column("size")) == [0.5] * 100
seen = []
for epoch in range(8):
    for ids in ib.batch_sampler(16):
        weights = ib.get_weights(ids)
        losses = [i / 64 for i in ids]
        mean = ib.update(losses)
        assert abs(mean - sum(w * x for w, x in zip(weights, losses)) / len(ids)) < 1e-6
        seen += ids
for i, score in enumerate(ib.scores):
    assert score == i / 64
for ids in ib.batch_sampler(50):
    assert ib.update([1.0] * 50, ids, reduction="none") == [1.0] * 50
    break
batches = iter(ib.batch_sampler(10)); ids = next(batches)
assert ib.update([2.0] * 10, scores=[5.0] * 10, reduction="weighted_mean") == 2.0
next(batches)
assert ib.observe([1.0] * 10) == [1.0] * 10
for wrong in (1.0, ["a"], None):
    try:
        ib.update(wrong)
    except ValueError as error:
        assert "reduction='none'" in str(error)
    else:
        raise AssertionError(wrong)
other = InfoBatch(100, 8, seed=3, columns={"class": [i % 3 for i in range(100)], "size": [0.5] * 100})
other.load_state_dict(ib.state_dict())
assert list(other.scores[:5]) == list(ib.scores[:5])
print(len(seen))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert 200 < int(done.stdout) < 800


# --- the loop


def test_an_epoch_leaves_learned_samples_out_and_every_score_is_its_samples_own() -> None:
    size = 1000
    ib = InfoBatch(size, 8, seed=3)
    record = Record()
    for epoch in range(8):
        length = len(ib.sampler)
        seen = epoch_of_lists(ib, 64, record)
        assert len(set(seen)) == len(seen) == length
        if epoch in (0, 7):
            assert len(seen) == size
        else:
            assert len(seen) < 0.85 * size
        assert ib.epoch == epoch + 1
        record.check(ib)
    assert ib.get_pruned_count() > 0
    assert ib.progress == 1.0


def test_rule_6_the_mean_is_over_the_batch_and_weights_are_inverse_chances() -> None:
    ib = InfoBatch(100, 10, prune_ratio=0.75, seed=1)
    for ids in ib.batch_sampler(50):
        ib.update([float(i) for i in ids])
    (ids,) = ib.batch_sampler(1000)
    assert any(i < 49.5 for i in ids)
    losses = [float(i) for i in ids]
    weights = [4.0 if i < 49.5 else 1.0 for i in ids]
    assert list(ib.get_weights(ids)) == weights
    expected = sum(w * x for w, x in zip(weights, losses, strict=True)) / len(ids)
    assert ib.update(losses) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "weighted_mean"])
def test_rule_6_every_reduction_is_what_it_says(reduction: str) -> None:
    ib = InfoBatch(64, 8, seed=5)
    epoch_of_lists(ib, 16)
    weights = weights_of(ib.plan)
    assert set(weights.values()) == {1.0, 2.0}
    for ids in ib.batch_sampler(16):
        losses = losses_of(ids, 1)
        rows = [weights[i] * x for i, x in zip(ids, losses, strict=True)]
        expected: Any = {
            "mean": sum(rows) / len(rows),
            "sum": sum(rows),
            "none": rows,
            "weighted_mean": sum(rows) / sum(weights[i] for i in ids),
        }[reduction]
        found = ib.update(losses, reduction=reduction)
        assert (list(found) if reduction == "none" else found) == pytest.approx(expected, rel=1e-6)


def test_a_score_may_differ_from_the_loss_and_ids_may_come_in_any_order() -> None:
    ib = InfoBatch(40, 8)
    record = Record()
    for ids in ib.batch_sampler(8):
        mixed = ids[::-1]
        losses, scores = losses_of(mixed, 3), losses_of(mixed, 5)
        assert ib.update(losses, mixed, scores) == pytest.approx(sum(losses) / 8)
        record.saw(mixed, scores)
    record.check(ib)


def test_rule_11_of_a_repeated_id_every_row_is_weighted_and_the_last_one_wins() -> None:
    ib = InfoBatch(4, 8)
    next(iter(ib.batch_sampler(4)))
    assert ib.update([1.0, 2.0, 3.0, 6.0, 8.0], [0, 1, 2, 3, 0], reduction="sum") == 20.0
    len(ib.sampler)
    assert observed(ib) == {0: 8.0, 1: 2.0, 2: 3.0, 3: 6.0}


def test_an_epoch_by_rows_and_one_by_batches_are_the_same() -> None:
    rows, batches = InfoBatch(500, 8, seed=2), InfoBatch(500, 8, seed=2)
    for epoch in range(4):
        by_batches = epoch_of_lists(batches, 50)
        by_rows = []
        for index in rows.sampler:
            rows.update(losses_of([index], epoch))
            by_rows.append(index)
        assert by_rows == by_batches


def test_numbers_of_epochs_follow_one_another_and_set_epoch_moves_to_any() -> None:
    ib = InfoBatch(100, 8, seed=4)
    with whatever_it_warns_of():
        assert ib.epoch == 0
        epoch_of_lists(ib, 10)
        first = epoch_of_lists(ib, 10)
        assert ib.epoch == 2
        ib.set_epoch(5)
        assert ib.epoch == 5
        ib.set_epoch(7)
        assert len(ib.sampler) == 100  # annealed
        ib.set_epoch(1)
        assert ib.epoch == 1
        assert len(first) < 100
        with pytest.raises(ValueError, match="set_epoch"):
            ib.set_epoch(-1)
        ib.set_epoch(9)  # behind the end: full
        assert len(ib.sampler) == 100


def test_set_epoch_through_a_sampler_is_that_of_the_run() -> None:
    ib = InfoBatch(100, 8)
    ib.sampler.set_epoch(3)
    assert ib.epoch == 3
    batches = ib.batch_sampler(10)
    batches.set_epoch(4)
    assert ib.epoch == 4
    assert batches.sampler is ib.sampler


def test_setting_the_running_epoch_once_more_repeats_it() -> None:
    ib = InfoBatch(100, 8, seed=4)
    plan = list(ib.plan.ids)
    batches = iter(ib.batch_sampler(10))
    ib.update([1.0] * len(next(batches)))
    ib.set_epoch(0)
    with pytest.raises(RuntimeError, match="set_epoch"):
        next(batches)
    with nothing_to_warn_of():
        assert epoch_of_lists(ib, 10) == plan


def test_discard_epoch_undoes_the_steps_of_a_learning_rate_finder() -> None:
    ib, other = InfoBatch(100, 8, seed=4), InfoBatch(100, 8, seed=4)
    for step, ids in enumerate(ib.batch_sampler(10)):
        ib.update([1e6] * len(ids))
        if step == 4:
            break
    assert ib.progress > 0
    ib.discard_epoch()
    assert (ib.epoch, ib.progress) == (0, 0.0)
    with nothing_to_warn_of():
        for _ in range(3):
            assert epoch_of_lists(ib, 10) == epoch_of_lists(other, 10)
    len(ib.sampler), len(other.sampler)
    assert observed(ib) == observed(other)


def test_a_loop_that_breaks_off_goes_on_with_the_next_epoch() -> None:
    ib = InfoBatch(100, 8, seed=4)
    record = Record()
    with nothing_to_warn_of():
        for step, ids in enumerate(ib.batch_sampler(10)):
            ib.update(losses_of(ids, 0))
            record.saw(ids, losses_of(ids, 0))
            if step == 4:
                break
        assert ib.epoch == 0
        next(iter(ib.batch_sampler(10)))
        assert ib.epoch == 1
        record.check(ib)


def test_len_is_true_before_during_and_after_every_epoch() -> None:
    ib = InfoBatch(1000, 8, seed=3)
    keep, drop = ib.batch_sampler(64), ib.batch_sampler(64, drop_last=True)
    for epoch in range(8):
        rows, batches = len(ib.sampler), len(keep)
        assert batches == -(-rows // 64)
        assert len(drop) == rows // 64
        steps = seen = 0
        for ids in keep:
            if steps == 3:
                assert len(keep) == batches
                assert len(ib.sampler) == rows
            steps, seen = steps + 1, seen + len(ids)
            ib.update(losses_of(ids, epoch))
        assert (steps, seen) == (batches, rows)


def test_a_progress_bar_shows_the_right_total_in_every_epoch() -> None:
    tqdm = pytest.importorskip("tqdm")
    ib = InfoBatch(1000, 8, seed=3)
    batches, totals = ib.batch_sampler(64), []
    for epoch in range(8):
        bar = tqdm.tqdm(batches, disable=False, file=open("/dev/null", "w"))  # noqa: SIM115
        for ids in bar:
            ib.update(losses_of(ids, epoch))
        assert bar.n == bar.total
        totals.append(bar.total)
    assert totals[0] == totals[7] == 16
    assert max(totals[1:7]) < 16


def test_rule_15_iterating_is_pure_and_peeking_repeats_the_plan() -> None:
    ib = InfoBatch(100, 8)
    untouched = [iter(ib.sampler), iter(ib.sampler), iter(ib.batch_sampler(7))]
    first = next(iter(ib.batch_sampler(10)))
    assert next(iter(ib.batch_sampler(10))) == first
    assert list(ib.sampler)[:10] == first
    assert ib.epoch == 0
    assert ib.sampler is ib.sampler
    assert len(untouched) == 3


def test_statistics_lengths_and_plans_change_nothing_in_the_midst_of_an_epoch() -> None:
    """A loop that looks at everything all the time trains as one that never looks."""
    looking, blind = InfoBatch(300, 6, seed=9), InfoBatch(300, 6, seed=9)
    for epoch in range(6):
        theirs = iter(blind.batch_sampler(32))
        for ids in looking.batch_sampler(32):
            looks = (looking.statistics, len(looking.sampler), looking.plan, looking.progress)
            str(looks), looking.epoch, looking.scores, repr(looking), looking.get_pruned_count()
            assert next(theirs) == ids
            assert looking.update(losses_of(ids, epoch)) == blind.update(losses_of(ids, epoch))
        assert next(theirs, None) is None
    assert str(looking.statistics) == str(blind.statistics)


def test_statistics_tell_what_one_wants_to_know() -> None:
    ib = InfoBatch(100, 8, seed=4)
    epoch_of_lists(ib, 10)
    kept = len(ib.sampler)
    next(iter(ib.batch_sampler(10)))
    ib.update([1.0] * 10)
    found = ib.statistics
    assert (found.epoch, found.size, found.kept, found.pruned) == (1, 100, kept, 100 - kept)
    assert (found.planned, found.prunes, found.observed) == (True, True, 100)
    assert found.mean_score == float(ib.mean_score())
    assert found.candidates == sum(score < found.mean_score for score in observed(ib).values())
    assert found.pruned_total == ib.get_pruned_count() == 100 - kept
    assert found.saved == pytest.approx((100 - kept) / 200)
    assert str(found).startswith(f"epoch 1: {kept} of 100 samples kept, {100 - kept} left out; ")
    with pytest.raises(AttributeError):
        found.epoch = 3


def test_figures_of_the_official_package_have_its_meaning() -> None:
    ib = InfoBatch(100, 8, seed=4)
    assert ib.stop_prune == 7.0
    assert ib.mean_score() != ib.mean_score()  # NaN: there is no score
    epoch_of_lists(ib, 10)
    assert float(ib.mean_score()) == pytest.approx(sum(losses_of(range(100), 0)) / 100)
    assert (ib.num_epochs, ib.prune_ratio, ib.delta) == (8, 0.5, 0.875)


def test_progress_and_max_steps_speak_of_the_run() -> None:
    ib = InfoBatch(100, 4, seed=4)
    assert ib.max_steps(16) == 4 * 7
    before, steps = 0.0, 0
    while ib.epoch < 4:
        for ids in ib.batch_sampler(16):
            ib.update(losses_of(ids, 0))
            assert ib.progress > before
            before, steps = ib.progress, steps + 1
    assert before == 1.0
    assert steps < ib.max_steps(16)


# --- options


def test_an_unknown_option_is_told_with_those_that_exist() -> None:
    with pytest.raises(TypeError, match=r"one of .*target_saved.* got prunning"):
        InfoBatch(10, 5, prunning=0.5)  # type: ignore[call-arg]


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"prune_ratio must be .* got 1\.5; delta must be .* got 2"):
        InfoBatch(10, 5, 1.5, 2.0)


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ((-1, 5), {}, "-1"),
        ((10, 0), {}, "epochs"),
        ((10, 5, 1.0), {}, "prune_ratio"),
        ((10, 5, -0.1), {}, "prune_ratio"),
        ((10, 5, float("nan")), {}, "prune_ratio"),
        ((10, 5, float("inf")), {}, "prune_ratio"),
        ((10, 5, 0.5, 0.0), {}, "delta"),
        ((10, 5, "a half"), {}, "prune_ratio"),
        ((10, "five"), {}, "epochs"),
        ((10, 2.5), {}, "epochs"),
        ((10, 5), {"seed": -1}, "seed"),
        ((10, 5), {"policy": "best"}, "best"),
        ((10, 5), {"keep": "some"}, "some"),
        ((10, 5), {"target_saved": 0.99}, "target_saved"),
        ((10, 5), {"warmup": 0}, "warmup"),
        ((10, 5), {"whole_batches": 4}, "exact"),
        ((10, 5), {"score_ema": 1.5}, "score_ema"),
        ((10, 5), {"threads": -1}, "threads"),
        ((10, 5), {"drop_last": "yes"}, "drop_last"),
    ],
)
def test_rule_13_a_wrong_option_is_refused_by_its_name(
    arguments: tuple[Any, ...], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        InfoBatch(*arguments, **options)
    assert str(caught.value).startswith("InfoBatch: ")


@pytest.mark.parametrize("wrong", [iter([1, 2]), None, True, 10.0, {1, 2}])
def test_what_has_no_length_and_items_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="iterable data set has no sample ids"):
        InfoBatch(wrong, 5)
    if not isinstance(wrong, set):
        with pytest.raises(TypeError, match="Indexed"):
            Indexed(wrong)


def test_options_reach_the_engine() -> None:
    ib = InfoBatch(1000, 8, target_saved=0.2, keep="exact", seed=1, threads=1, warmup=2)
    assert ib.statistics.promised_saved == 0.2
    record = run_to_the_end(ib, 8)
    record.check(ib)
    assert ib.statistics.actual_saved == pytest.approx(0.2, abs=0.01)
    assert "promised" in str(ib.statistics)


def test_whole_batches_gives_batches_of_one_size() -> None:
    ib = InfoBatch(128, 8, keep="exact", whole_batches=16, seed=1)
    kept = []
    while ib.epoch < 8:
        for ids in ib.batch_sampler(16):
            assert len(ids) == 16
            ib.update(losses_of(ids, 0))
            kept.append(len(ids))
    assert sum(kept) < 8 * 128


def test_other_policies_can_be_asked_for_by_name() -> None:
    for policy in ("infobatch_quantile", "random", "full"):
        ib = InfoBatch(200, 8, policy=policy, seed=1)
        run_to_the_end(ib, 8).check(ib)
        assert (ib.get_pruned_count() > 0) == (policy != "full")


def test_seeds_make_runs_and_the_default_one_is_a_constant_without_torch() -> None:
    def order(**options: Any) -> list[int]:
        return epoch_of_lists(InfoBatch(50, 8, **options), 10)

    assert order(seed=1) == order(seed=1) != order(seed=2)
    assert sorted(order(seed=2**64 - 1)) == list(range(50))
    program = "from infobatch import InfoBatch; print(list(InfoBatch(9, 8).sampler))"
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


# --- refusals: before anything is written, in the words of Python


def test_what_is_refused_has_changed_nothing_and_names_the_cures() -> None:
    ib = InfoBatch(100, 8)
    with pytest.raises(RuntimeError, match=r"^InfoBatch\.update: .*update\(losses, ids\)"):
        ib.update([1.0])
    batches = iter(ib.batch_sampler(10))
    record = Record()

    def step() -> None:
        ids = next(batches)
        for wrong, kind, words in (
            ([1.0] * 9, RuntimeError, "row"),
            ([1.0] * 11, RuntimeError, "InfoBatch.update"),
        ):
            if record.last:  # the first batch may come back in parts
                with pytest.raises(kind, match=words):
                    ib.update(wrong)
        with pytest.raises(ValueError, match=r"reduction must be one of mean, sum, none, weighted_mean"):
            ib.update([1.0] * 10, reduction="median")
        with pytest.raises(ValueError, match=r"scores must be one for each of 10"):
            ib.update([1.0] * 10, scores=[1.0] * 3)
        with pytest.raises(ValueError, match=r"ids must be one for each of 10"):
            ib.update([1.0] * 10, [1, 2])
        if not record.last:  # an epoch is observed by ids, or in order
            with pytest.raises(IndexError, match=r"^InfoBatch\.update: .*100"):
                ib.update([1.0] * 10, [*ids[:9], 100])
            with pytest.raises(IndexError, match="-1"):
                ib.update([1.0], [-1])
        with pytest.raises(IndexError, match=r"^InfoBatch\.get_weights"):
            ib.get_weights([100])
        losses = losses_of(ids, 0)
        ib.update(losses)
        record.saw(ids, losses)
        with pytest.raises(RuntimeError, match=r"second update.*update\(losses, ids\)"):
            ib.update(losses)

    for _ in range(10):
        step()
    record.check(ib)
    assert ib.epoch == 1


@pytest.mark.parametrize("wrong", [1.0, None, "losses", ["a"], [[1.0], [2.0, 3.0]]])
def test_what_is_no_list_of_losses_is_refused(wrong: Any) -> None:
    ib = InfoBatch(10, 8)
    next(iter(ib.batch_sampler(2)))
    with pytest.raises((ValueError, TypeError)):
        ib.update(wrong)
    ib.update([1.0, 2.0])


def test_a_scalar_loss_is_told_both_cures() -> None:
    ib = InfoBatch(10, 8)
    next(iter(ib.batch_sampler(2)))
    with pytest.raises(ValueError, match=r"reduction='none'.*observe.*scale_gradient"):
        ib.update(1.0)


def test_ids_outside_of_the_plan_are_refused() -> None:
    ib = InfoBatch(100, 8, seed=1)
    epoch_of_lists(ib, 10)
    kept = set(ib.plan.ids)
    left_out = next(i for i in range(100) if i not in kept)
    next(iter(ib.batch_sampler(10)))
    with pytest.raises(IndexError, match=str(left_out)):
        ib.update([1.0], [left_out])
    with pytest.raises(IndexError, match=str(left_out)):
        ib.get_weights([left_out])


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "8", None])
def test_a_wrong_batch_size_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
        InfoBatch(10, 8).batch_sampler(wrong)
    with pytest.raises(ValueError, match="drop_last must be a bool"):
        InfoBatch(10, 8).batch_sampler(2, drop_last=wrong if wrong is not True else "yes")


def test_a_data_set_that_changes_its_length_is_refused_at_the_next_epoch() -> None:
    inner = Numbers(100)
    ib = InfoBatch(inner, 8)
    epoch_of_lists(ib, 10)
    inner.size = 101
    with pytest.raises(ValueError, match="keep its length 100, got 101"):
        next(iter(ib.sampler))
    inner.size = 100
    next(iter(ib.sampler))


def test_an_infobatch_of_a_length_has_no_items() -> None:
    ib = InfoBatch(10, 8)
    assert len(ib) == 10
    with pytest.raises(TypeError, match=r"batch_sampler=ib\.batch_sampler\(B\)"):
        ib[0]


def test_integers_of_numpy_are_integers() -> None:
    class Five:
        def __index__(self) -> int:
            return 5

    ib = InfoBatch(Five(), Five())  # type: ignore[arg-type]
    assert (len(ib), ib.num_epochs) == (5, 5)
    assert len(next(iter(ib.batch_sampler(Five())))) == 5  # type: ignore[arg-type]
    ib.set_epoch(Five())  # type: ignore[arg-type]
    assert ib.epoch == 5


@pytest.mark.parametrize("wrong", ["a", 1.7, None, True])
def test_an_epoch_is_an_integer(wrong: Any) -> None:
    ib = InfoBatch(10, 5)
    with pytest.raises(ValueError, match=r"InfoBatch.set_epoch: epoch must be an integer, got"):
        ib.set_epoch(wrong)
    assert ib.epoch == 0


def test_made_from_a_length_it_has_no_attributes_of_a_number() -> None:
    ib = InfoBatch(10, 5)
    with pytest.raises(
        AttributeError, match=r"InfoBatch' object, made from a length, has no attribute 'real'"
    ):
        ib.real  # noqa: B018


def test_an_empty_data_set_has_empty_epochs() -> None:
    ib = InfoBatch(0, 4)
    assert len(ib.sampler) == 0
    assert list(ib.sampler) == list(ib.batch_sampler(4)) == []
    assert list(ib.scores) == []


def test_a_class_derived_from_infobatch_is_one() -> None:
    class Mine(InfoBatch):
        extra = 3

    ib = Mine(Numbers(50), 8)
    assert ib.extra == 3
    assert sorted(epoch_of_lists(ib, 10)) == list(range(50))
    assert type(copy.deepcopy(ib)) is type(ib)


# --- warnings


def test_every_warning_has_a_category_and_comes_from_the_line_of_the_program() -> None:
    categories = {name: getattr(infobatch, name) for name in infobatch.__all__ if name.endswith("Warning")}
    assert len(categories) == 9
    for category in categories.values():
        assert issubclass(category, infobatch.InfoBatchWarning)
        assert issubclass(category, UserWarning)
    ib = InfoBatch(10, 2)
    with pytest.warns(infobatch.NeverPrunesWarning) as caught:
        list(ib.sampler)
    assert caught[0].filename == __file__


def test_a_forgotten_third_line_warns_once() -> None:
    ib = InfoBatch(100, 8)
    list(ib.batch_sampler(10))
    with pytest.warns(infobatch.UpdateForgottenWarning, match=r"InfoBatch\.update\(losses\)"):
        next(iter(ib.batch_sampler(10)))
    with nothing_to_warn_of():
        list(ib.batch_sampler(10))
        list(ib.batch_sampler(10))


def test_rule_10_losses_that_are_not_finite_warn_once_and_are_counted() -> None:
    ib = InfoBatch(100, 8, seed=1)
    broken = {3: float("nan"), 4: float("inf")}
    for ids in ib.batch_sampler(10):
        losses = [broken.get(i, loss_of(i, 0)) for i in ids]
        mean = ib.update(losses)
        assert mean == pytest.approx(sum(losses) / 10, nan_ok=True)  # not masked
    with pytest.warns(infobatch.NonFiniteLossWarning):
        length = len(ib.sampler)
    assert 3 not in observed(ib)
    assert 4 not in observed(ib)
    weights = weights_of(ib.plan)
    assert weights[3] == weights[4] == 1.0
    assert 50 < length < 100
    next(iter(ib.sampler))
    assert ib.statistics.non_finite_total == 2
    assert "2 losses were not finite" in str(ib.statistics)


def test_an_unsound_epoch_warns_and_its_losses_do_not_enter() -> None:
    ib = InfoBatch(100, 8, seed=1)
    batches = iter(ib.batch_sampler(10))
    out = [next(batches) for _ in range(3)]
    ib.update(losses_of(out[0], 0))
    with pytest.warns(infobatch.UnsoundEpochWarning, match=r"(?s)update\(losses, ids\)"):
        next(iter(ib.batch_sampler(10)))
    assert observed(ib) == {}
    assert "10 losses of unsound epochs dropped" in str(ib.statistics)


def test_a_warning_that_is_an_error_leaves_the_run_as_it_was() -> None:
    ib = InfoBatch(100, 8)
    list(ib.batch_sampler(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(infobatch.UpdateForgottenWarning):
            next(iter(ib.batch_sampler(10)))
        record = Record()
        epoch_of_lists(ib, 10, record)
        record.check(ib)


# --- what belongs to whom


def test_two_samplers_pulled_in_turns_are_refused_and_two_runs_work_side_by_side() -> None:
    ib = InfoBatch(100, 8)
    one, two = iter(ib.sampler), iter(ib.sampler)
    next(one)
    next(two)
    with pytest.raises(RuntimeError, match="two loaders"):
        next(one)
    mine, other = InfoBatch(100, 8, seed=1), InfoBatch(100, 8, seed=2)
    records = Record(), Record()
    for a, b in zip(mine.batch_sampler(10), other.batch_sampler(10), strict=True):
        for run, ids, epoch, record in ((mine, a, 1, records[0]), (other, b, 2, records[1])):
            run.update(losses_of(ids, epoch))
            record.saw(ids, losses_of(ids, epoch))
    records[0].check(mine)
    records[1].check(other)


def test_views_of_scores_plans_and_weights_hold_their_run() -> None:
    ib = InfoBatch(1000, 8, seed=1)
    epoch_of_lists(ib, 100)
    plan, weights, scores, ids = ib.plan, ib.weights, ib.scores, ib.plan.ids
    expected = weights_of(plan), [float(x) for x in scores]
    batches = iter(ib.batch_sampler(100))
    ib.update([0.5] * len(next(batches)))
    del ib, batches
    gc.collect()
    for _ in range(20):  # memory that was freed would be used again
        epoch_of_lists(InfoBatch(1000, 8), 100)
    assert dict(zip(ids, weights, strict=True)) == expected[0]
    assert [float(x) for x in scores] == expected[1] == losses_of(range(1000), 0)


def test_scores_are_one_view_that_moves_with_the_run_and_cannot_be_written() -> None:
    ib = InfoBatch(20, 8)
    scores = ib.scores
    assert all(float(x) != float(x) for x in scores)
    epoch_of_lists(ib, 5)
    len(ib.sampler)
    assert [float(x) for x in scores] == losses_of(range(20), 0)
    with pytest.raises(TypeError):
        ib.plan.weights[0] = 2.0
    with pytest.raises(TypeError):
        ib.plan.ids[0] = 2


def test_rule_9_a_plan_is_frozen_and_outlives_its_epoch() -> None:
    ib = InfoBatch(100, 8, seed=1)
    epoch_of_lists(ib, 10)
    plan = ib.plan
    before = list(plan.ids), list(plan.weights)
    assert list(ib.plan.ids) == before[0]
    assert epoch_of_lists(ib, 10) == before[0]
    run_to_the_end(ib, 8)
    assert (list(plan.ids), list(plan.weights)) == before
    assert (plan.epoch, len(plan), repr(plan)) == (1, len(before[0]), f"Plan(epoch=1, size={len(before[0])})")


def test_attributes_and_items_are_those_of_the_data_set_within() -> None:
    ib = InfoBatch(Numbers(100), 8)
    assert (len(ib), ib[7], ib.note) == (100, 7, Numbers.note)
    with pytest.raises(AttributeError):
        ib.nothing_of_the_kind  # noqa: B018
    assert repr(ib) == "InfoBatch(Numbers, size=100, num_epochs=8)"
    assert not hasattr(ib, "__getitems__")
    # Special methods are not passed on: an InfoBatch of a list is no list, of an array no array.
    assert hasattr([], "__contains__")
    assert not hasattr(InfoBatch([1, 2, 3], 8), "__contains__")


# --- copies


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_infobatch_is_its_data_set(protocol: int) -> None:
    ib = InfoBatch(Numbers(100), 8)
    epoch_of_lists(ib, 10)
    plain = pickle.loads(pickle.dumps(ib, protocol))
    assert (len(plain), plain[7], plain.note) == (100, 7, ib.note)
    assert isinstance(plain, InfoBatch)
    for call in (
        lambda: plain.update([1.0]),
        lambda: plain.sampler,
        lambda: plain.batch_sampler(10),
        lambda: plain.epoch,
        lambda: plain.state_dict(),
        lambda: copy.deepcopy(plain),
        lambda: plain.scores,
    ):
        with pytest.raises(RuntimeError, match="plain data set"):
            call()
    again = pickle.loads(pickle.dumps(plain, protocol))
    assert again[8] == 8
    assert "size=100" in repr(plain)


def test_samplers_and_iterations_cannot_be_pickled() -> None:
    ib = InfoBatch(Numbers(100), 8)
    with pytest.raises(TypeError, match="state_dict or save"):
        pickle.dumps(ib.sampler)
    with pytest.raises(TypeError, match="state_dict or save"):
        pickle.dumps(ib.batch_sampler(10))
    for iteration in (iter(ib.sampler), iter(ib.batch_sampler(10))):
        with pytest.raises(Exception):  # noqa: B017, PT011 - a chain, a lock: Python's own words
            pickle.dumps(iteration)


@pytest.mark.parametrize("stop", [0, 3, 10, 14])
def test_a_deep_copy_is_an_independent_run_that_goes_on_where_the_first_stands(stop: int) -> None:
    ib = InfoBatch(
        Numbers(100), 8, seed=3, columns={"class": [i % 7 for i in range(100)]}, score_ema=0.5, threads=1
    )
    batches = iter(ib.batch_sampler(10))
    for _ in range(stop):
        if (ids := next(batches, None)) is None:
            batches = iter(ib.batch_sampler(10))
            ids = next(batches)
        ib.update(losses_of(ids, 0))
    with pytest.raises(RuntimeError):
        copy.deepcopy(ib).update([1.0] * 10)  # what is out is not copied
    twin = copy.deepcopy(ib)
    assert list(twin.column("class")) == list(ib.column("class"))
    assert observed(twin) == observed(ib)
    mine = [(batch, ib.update(losses_of(batch, 1))) for batch in batches]
    if stop == 10:  # the epoch is over
        mine = [(batch, ib.update(losses_of(batch, 1))) for batch in ib.batch_sampler(10)]
    assert [(batch, twin.update(losses_of(batch, 1))) for batch in twin.batch_sampler(10)] == mine
    twin.set_epoch(7)
    assert ib.epoch < 7
    assert twin.dataset is not ib.dataset
    assert twin.sampler is not ib.sampler


def test_runs_of_every_policy_can_be_copied() -> None:
    from infobatch._library import lib

    for card in json.loads(lib.ib_cards_json())["policies"]:
        ib = InfoBatch(60, 8, seed=3, policy=card["name"], columns={"class": [i % 7 for i in range(60)]})
        for epoch in range(2):
            for batch in ib.batch_sampler(10):
                ib.update(losses_of(batch, epoch))
        twin = copy.deepcopy(ib)
        assert twin.column_names == ib.column_names
        assert twin._state() == ib._state()
        assert list(twin.plan.ids) == list(ib.plan.ids)


def test_a_copy_of_a_structure_holds_one_copy_of_its_run() -> None:
    ib = InfoBatch(Numbers(10), 8)
    first, second = copy.deepcopy((ib, ib))
    assert first is second
    assert first is not ib


# --- columns


def test_columns_are_kept_saved_and_compared() -> None:
    ib = InfoBatch(4, 8, columns={"class": [0, 1, 0, 1]})
    ib.set_column("area", [0.5, 1.5, 2.5, 3.5])
    assert list(ib.column("class")) == [0, 1, 0, 1]
    assert list(ib.column("area")) == [0.5, 1.5, 2.5, 3.5]
    assert ib.column_names == ["score", "area", "class"]
    same = InfoBatch(4, 8, columns={"class": [0, 1, 0, 1], "area": [0.5, 1.5, 2.5, 3.5]})
    same.load_state_dict(ib.state_dict())
    other = InfoBatch(4, 8, columns={"class": [0, 1, 1, 1], "area": [0.5, 1.5, 2.5, 3.5]})
    with pytest.raises(ValueError, match="class"):
        other.load_state_dict(ib.state_dict())


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="one value for each of 4"):
        InfoBatch(4, 8, columns={"class": [0, 1]})
    ib = InfoBatch(4, 8)
    for name in ("score", "", "Class", "1st", "a" * 65):
        with pytest.raises(ValueError, match="set_column"):
            ib.set_column(name, [1, 2, 3, 4])
    with pytest.raises((ValueError, TypeError)):
        ib.set_column("words", ["a", "b", "c", "d"])
    with pytest.raises((ValueError, IndexError), match="nothing"):
        ib.column("nothing")
    next(iter(ib.sampler))
    with pytest.raises(RuntimeError, match="set_column"):
        ib.set_column("late", [1, 2, 3, 4])


# --- state


def test_a_state_is_refused_where_it_is_not_one_of_this_run(tmp_path: Path) -> None:
    ib = InfoBatch(100, 8, seed=1)
    epoch_of_lists(ib, 10)
    state = ib.state_dict()
    with pytest.raises(ValueError, match="seed"):
        InfoBatch(100, 8, seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="101"):
        InfoBatch(101, 8, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"key 'infobatch', got \['model'\]"):
        InfoBatch(100, 8, seed=1).load_state_dict({"model": 3})
    with pytest.raises(infobatch.FileError, match=r"^InfoBatch\.load: .*nothing\.safetensors"):
        ib.load(tmp_path / "nothing.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    ib.save(damaged)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(infobatch.FileError):
        ib.load(damaged)
    damaged.write_bytes(content[:100])
    with pytest.raises(infobatch.FileError):
        ib.load(damaged)
    with pytest.raises(infobatch.FileError):
        ib.save(tmp_path / "no" / "folder")
    assert ib.epoch == 1  # and nothing has changed


def test_what_may_differ_is_reported_and_warned_of() -> None:
    ib = InfoBatch(100, 8, seed=1)
    epoch_of_lists(ib, 10)
    other = InfoBatch(100, 10, delta=0.9, seed=1)
    with pytest.warns(infobatch.StateChangedWarning, match="epochs: 8 -> 10") as caught:
        report = other.load_state_dict(ib.state_dict())
    assert caught[0].filename == __file__
    assert len(report.changes) == 2
    assert other.epoch == 1
    with nothing_to_warn_of():
        assert InfoBatch(100, 8, seed=1).load_state_dict(ib.state_dict()).changes == ()


# --- threads, Ctrl-C


def test_calls_may_come_from_any_thread() -> None:
    ib = InfoBatch(2000, 8, seed=1)
    stop, failures = threading.Event(), []

    def look() -> None:
        try:
            while not stop.is_set():
                ib.statistics, ib.progress, len(ib.sampler), ib.epoch, ib.state_dict()
        except Exception as error:  # pragma: no cover
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        record = Record()
        while ib.epoch < 3:
            epoch_of_lists(ib, 100, record)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    record.check(ib)
    assert failures == []


@pytest.mark.parametrize("rows", [False, True], ids=["batches", "rows"])
def test_ctrl_c_anywhere_leaves_a_run_that_goes_on(rows: bool) -> None:
    """KeyboardInterrupt at a random instruction of the package, again and again: the loop that is started
    anew is not refused, and no score is another sample's."""
    package = str(Path(infobatch.__file__).parent)
    left = [0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(package):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    rng = random.Random(5)
    interrupted = 0
    with whatever_it_warns_of():
        for _ in range(150):
            ib = InfoBatch(60, 6, seed=rng.randrange(1000))
            for attempt in range(3):
                left[0] = rng.randrange(1, 1500) if attempt < 2 else 0
                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    iterator: Any = iter(ib.sampler) if rows else iter(ib.batch_sampler(10))
                    while ids := [i for _, i in zip(range(10), iterator)] if rows else next(iterator, None):  # noqa: B905
                        ib.update(losses_of(ids, ib.statistics.epoch))
                except KeyboardInterrupt:
                    interrupted += 1
                finally:
                    sys.settrace(before)
            len(ib.sampler)
            for index, score in observed(ib).items():
                assert score in [losses_of([index], epoch)[0] for epoch in range(6)]
    assert interrupted > 100
