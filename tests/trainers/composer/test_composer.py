"""InfoBatch in Composer: its Trainer on one process and on two, checkpoints, loggers, schedules."""

import importlib
import json
import math
import re
import warnings
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("composer.trainer", reason="Composer is not installed (make test-trainers ALL=1)")

import torch
from composer import Trainer
from composer.callbacks import EarlyStopper
from composer_run import TOP_RATE, Model, number_of, train
from points import BATCH, SAMPLES, Points
from processes import example, launch, without
from torch.utils.data import DataLoader

from infobatch import InfoBatch, InfoBatchWarning
from infobatch.composer import InfoBatchAlgorithm

EPOCHS = 6
#: Checkpoints that are gone on from, as epoch and batch: in its midst, behind its last one (the next epoch is
#: shorter, and longer), and in the midst of one that sees every sample.
BEHIND = ((1, 9), (1, -1), (2, -1), (3, 20))
BEHIND_ON_RANKS = ((1, 5), (1, -1), (4, -1), (5, 9))


def ids_of(result: dict[str, Any]) -> list[int]:
    return [sample for epoch in result["epochs"] for batch in epoch["ids"] for sample in batch]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing interrupts; a checkpoint each epoch."""
    folder = tmp_path_factory.mktemp("whole")
    return {**train(folder, epochs=EPOCHS, keep="1ep", bar=True), "folder": folder}


def test_it_learns_and_saves(whole: dict[str, Any]) -> None:
    assert whole["accuracy"] > 0.9
    assert 0.1 < whole["saved"] < 0.5
    assert any(epoch["kept"] < SAMPLES for epoch in whole["epochs"][1:-1])
    assert whole["epochs"][0]["kept"] == whole["epochs"][-1]["kept"] == SAMPLES


def test_every_epoch_is_as_long_as_its_plan_and_ends_with_a_validation(whole: dict[str, Any]) -> None:
    for epoch in whole["epochs"]:
        batches = math.ceil(epoch["kept"] / BATCH)
        assert epoch["batches"] == len(epoch["ids"]) == batches
        assert epoch["bar"] == [batches, batches]  # what the progress bar shows, and counts to
        assert len({sample for batch in epoch["ids"] for sample in batch}) == epoch["kept"]
    assert [epoch["epoch"] for epoch in whole["epochs"]] == list(range(EPOCHS))
    assert whole["validations"] == len(whole["rows"]["metrics/eval/accuracy"]) == EPOCHS


def test_the_logger_shows_kept_saved_and_mean_score(whole: dict[str, Any]) -> None:
    rows = whole["rows"]
    assert rows["infobatch/kept"] == [epoch["kept"] for epoch in whole["epochs"]]
    assert rows["infobatch/saved"][-1] == pytest.approx(whole["saved"])
    assert len(rows["infobatch/mean_score"]) == EPOCHS - 1  # there is none in the first epoch
    assert all(0 < score < 5 for score in rows["infobatch/mean_score"])


def test_the_learning_rate_ends_at_0(whole: dict[str, Any]) -> None:
    assert whole["rate"] == pytest.approx(0.0, abs=1e-9)


def test_a_schedule_of_torch_that_counts_steps_ends_where_it_should(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, schedule="steps")
    assert found["rate"] == pytest.approx(TOP_RATE / 25 / 1e4, rel=1e-3)


def test_a_schedule_of_composer_ends_where_it_should(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, schedule="composer")
    assert found["rate"] == pytest.approx(TOP_RATE / 4, rel=1e-6)
    # On its way it is where the run is, in steps of full epochs.
    full, done, due = math.ceil(SAMPLES / BATCH), 0.0, []
    for epoch in found["epochs"]:
        for batch in epoch["ids"]:
            due.append(math.pi * round(done * full) / (EPOCHS * full))
            done += len(batch) / epoch["kept"]
    assert found["rates"] == pytest.approx([TOP_RATE * (0.25 + 0.375 * (1 + math.cos(x))) for x in due])
    alone = train(tmp_path, epochs=EPOCHS, schedule="stock")
    assert alone["rate"] > TOP_RATE / 3  # it has counted on steps that did not come


def test_a_schedule_that_is_scaled_ends_where_it_should(tmp_path: Path) -> None:
    how = {"duration": f"{2 * EPOCHS}ep", "trainer": {"scale_schedule_ratio": 0.5}}
    found = train(tmp_path, epochs=EPOCHS, schedule="scaled", **how)
    assert len(found["epochs"]) == EPOCHS
    assert found["rate"] == pytest.approx(TOP_RATE / 4, rel=1e-6)


def test_a_schedule_sees_times_of_full_epochs(tmp_path: Path) -> None:
    seen = []

    def note(state: Any) -> float:
        time = state.timestamp
        in_epoch = (int(time.batch_in_epoch), int(time.sample_in_epoch))
        seen.append(
            (int(time.epoch), int(time.batch), int(time.sample), *in_epoch, int(state.dataloader_len))
        )
        return 1.0

    train(tmp_path, epochs=EPOCHS, schedule="noted", note=note)
    full = math.ceil(SAMPLES / BATCH)
    for epoch, batch, sample, batch_in_epoch, sample_in_epoch, length in seen:
        assert length == full
        assert batch == epoch * full + batch_in_epoch
        assert sample == pytest.approx(epoch * SAMPLES + sample_in_epoch, abs=1)
        assert sample == pytest.approx(batch * SAMPLES / full, abs=BATCH)
    assert seen[0][:3] == (0, 0, 0)
    assert seen[-1][:3] == (EPOCHS, EPOCHS * full, EPOCHS * SAMPLES)
    assert seen == sorted(seen)


def test_a_schedule_of_composer_is_its_own_where_nothing_is_left_out(tmp_path: Path) -> None:
    """But for one step: Composer's are asked before the batch is counted, and never for the last one."""
    how = {"epochs": 3, "infobatch": {"prune_ratio": 0.0}}
    driven = train(tmp_path, schedule="composer", **how)
    alone = train(tmp_path, schedule="stock", **how)
    steps = 3 * math.ceil(SAMPLES / BATCH)
    assert len(driven["rates"]) == len(alone["rates"]) == steps
    assert driven["rates"][:-1] == pytest.approx(alone["rates"][1:])


def test_a_checkpoint_of_an_epochs_end_goes_on_to_the_bit(whole: dict[str, Any], tmp_path: Path) -> None:
    (checkpoint,) = whole["folder"].glob("3-*.pt")
    resumed = train(tmp_path, epochs=EPOCHS, bar=True, resume=str(checkpoint))
    assert resumed["weights"] == whole["weights"]
    assert resumed["scores"] == whole["scores"]
    assert resumed["epochs"] == whole["epochs"][3:]
    assert resumed["validations"] == EPOCHS - 3
    assert resumed["batch"] == whole["batch"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"workers": 2},
        {"batches": True, "trainer": {"device_train_microbatch_size": 6}},
        {"by_ids": True, "trainer": {"device_train_microbatch_size": 6}, "workers": 1},
        {"drop_last": True},
    ],
    ids=str,
)
def test_a_checkpoint_of_any_batch_goes_on_to_the_bit(options: dict[str, Any], tmp_path: Path) -> None:
    """In the midst of an epoch, and behind the last batch of one, whose end has not come yet."""
    how = {"epochs": 4, "schedule": "steps", **options}
    alone = train(tmp_path, **how, keep="1ba")
    lengths = [len(epoch["ids"]) for epoch in alone["epochs"]]
    assert lengths[0] > lengths[1] > lengths[2] < lengths[3]
    ends = list(accumulate(lengths))
    for behind in (number_of(alone, *place) for place in BEHIND):
        (checkpoint,) = tmp_path.glob(f"*-{behind}.pt")
        resumed = train(tmp_path, **how, resume=str(checkpoint))
        batches = [batch for epoch in alone["epochs"] for batch in epoch["ids"]]
        assert [batch for epoch in resumed["epochs"] for batch in epoch["ids"]] == batches[behind:]
        for name in ("weights", "scores", "rate", "batch", "saved"):
            assert resumed[name] == alone[name], (name, behind)
        assert resumed["validations"] == sum(behind <= end for end in ends)
        # Lengths are those of whole epochs, also of the one in whose midst it goes on.
        later = {epoch["epoch"]: epoch["batches"] for epoch in resumed["epochs"] if "batches" in epoch}
        assert {epoch: lengths[epoch] for epoch in later} == later


@pytest.mark.parametrize("options", [{"batches": True}, {"by_ids": True}], ids=str)
def test_microbatches_take_every_loss_and_make_the_steps_of_batches(
    options: dict[str, Any], tmp_path: Path
) -> None:
    how = {"epochs": 3, "dropout": 0.0, **options}
    found = train(tmp_path, **how, trainer={"device_train_microbatch_size": 6})
    alone = train(tmp_path, **how, trainer={"device_train_microbatch_size": BATCH})
    assert found["epochs"] == alone["epochs"]
    assert found["saved"] > 0.05
    for left, right in zip(found["weights"], alone["weights"], strict=True):
        assert left == pytest.approx(right, rel=1e-3, abs=1e-5)


def test_microbatches_of_a_sampler_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the loader's batches are split, which needs a batch sampler"):
        train(tmp_path, epochs=3, trainer={"device_train_microbatch_size": 6})


def test_early_stopping(tmp_path: Path) -> None:
    stop = EarlyStopper("accuracy", "eval", patience=1, min_delta=0.5)
    found = train(tmp_path, epochs=EPOCHS, callbacks=[stop], schedule="composer")
    assert [len(epoch["ids"]) for epoch in found["epochs"]] == [
        math.ceil(epoch["kept"] / BATCH) for epoch in found["epochs"]
    ]
    assert 1 < len(found["epochs"]) < EPOCHS


def test_fit_in_two_parts_is_fit_in_one(tmp_path: Path) -> None:
    """Without dropout: between them Composer draws random numbers for loaders of validations."""
    how = {"epochs": EPOCHS, "dropout": 0.0, "bar": True}
    alone = train(tmp_path, **how)
    found = train(tmp_path, **how, duration=None, parts=["2ep", "4ep"])
    for name in ("weights", "scores", "epochs"):
        assert found[name] == alone[name], name


def test_fit_in_parts_behind_a_load_is_fit_in_one(tmp_path: Path) -> None:
    """Behind an epoch's last batch, and stopped in the midst of a later one."""
    how = {"epochs": 4, "dropout": 0.0}
    alone = train(tmp_path, **how, keep="1ba")
    (checkpoint,) = tmp_path.glob(f"*-{number_of(alone, 1, -1)}.pt")
    parts = ["1ep", "1ep", "1ep"]
    found = train(tmp_path / "a", **how, resume=str(checkpoint), duration=None, parts=parts)
    stopped = [f"{alone['batch'] - number_of(alone, 1, -1) - 5}ba", "5ba"]
    other = train(tmp_path / "b", **how, resume=str(checkpoint), duration=None, parts=stopped)
    for name in ("weights", "scores", "batch"):
        assert found[name] == other[name] == alone[name], name


# --- two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two processes found in each training: one that nothing interrupts; those that go on from its
    checkpoints; with microbatches by ids; and with batches of the InfoBatch."""
    folder = tmp_path_factory.mktemp("ranks")
    options = {"epochs": EPOCHS}
    trainings: list[dict[str, Any]] = [{**options, "keep": "1ba"}]
    trainings += [{**options, "behind": place} for place in BEHIND_ON_RANKS]
    trainings += [{**options, "by_ids": True, "trainer": {"device_train_microbatch_size": 5}}]
    trainings += [{**options, "batches": True}]
    arguments = (json.dumps(trainings),)
    found = launch("composer/composer_run.py", 2, folder, 240, "composer", arguments)
    return list(zip(*found, strict=True))


def test_two_processes_have_equal_scores_and_weights(ranks: Any) -> None:
    for alone in (ranks[0], ranks[-2]):
        for left, right in zip(alone[0]["epochs"], alone[1]["epochs"], strict=True):
            assert left["batches"] == right["batches"] == len(left["ids"]) == math.ceil(left["kept"] / BATCH)
            mine = [{sample for batch in epoch["ids"] for sample in batch} for epoch in (left, right)]
            assert len(mine[0] & mine[1]) <= 1  # padding alone is on both
            assert SAMPLES / 4 < len(mine[0] | mine[1]) <= SAMPLES
        assert alone[0]["scores"] == alone[1]["scores"]
        assert alone[0]["weights"] == alone[1]["weights"]
        assert alone[0]["accuracy"] > 0.9
        assert 0.1 < alone[0]["saved"] < 0.5
        assert alone[0]["validations"] == EPOCHS
        assert alone[0]["rate"] == pytest.approx(0.0, abs=1e-9)
        assert len(alone[0]["rows"]["infobatch/kept"]) == EPOCHS


def own_batches(training: list[dict[str, Any]], rank: int) -> list[list[int]]:
    """The batches of a rank without padding, for which behind a load another sample may stand in."""
    found = []
    for epoch, other in zip(training[rank]["epochs"], training[0]["epochs"], strict=True):
        padding = set().union(*other["ids"]) if rank > 0 else set()
        found += [[sample for sample in batch if sample not in padding] for batch in epoch["ids"]]
    return found


@pytest.mark.parametrize(("turn", "place"), list(enumerate(BEHIND_ON_RANKS, 1)))
def test_two_processes_go_on_to_the_bit(turn: int, place: tuple[int, int], ranks: Any) -> None:
    for rank, (before, after) in enumerate(zip(ranks[0], ranks[turn], strict=True)):
        rest = own_batches(ranks[0], rank)[number_of(before, *place) :]
        assert own_batches(ranks[turn], rank) == rest
        for name in ("weights", "scores", "rate", "batch", "saved"):
            assert after[name] == before[name], name


def test_a_batch_sampler_on_several_processes_is_refused_by_composer(ranks: Any) -> None:
    for found in ranks[-1]:
        assert "dataloader does not use DistributedSampler" in found["refused"]


# --- refusals


def fit(ib: InfoBatch, loader: Any = None, algorithm: Any = None, epochs: int = 3, **options: Any) -> None:
    loader = loader or DataLoader(Points(SAMPLES, 2), BATCH, sampler=ib.sampler)
    model = Model(ib, False, 0.0)
    trainer = Trainer(
        model=model, train_dataloader=loader, max_duration=f"{epochs}ep", device="cpu", progress_bar=False,
        optimizers=torch.optim.SGD(model.parameters(), TOP_RATE),
        algorithms=[algorithm or InfoBatchAlgorithm(ib)], **options,
    )  # fmt: skip
    trainer.fit()


def test_a_loader_of_another_run_is_refused() -> None:
    ib, other = InfoBatch(SAMPLES, 3), InfoBatch(SAMPLES, 3)
    with pytest.raises(ValueError, match=r"must have sampler=ib\.sampler"):
        fit(ib, algorithm=InfoBatchAlgorithm(other))
    with pytest.raises(ValueError, match=r"must have sampler=ib\.sampler"):
        fit(ib, DataLoader(Points(SAMPLES, 2), BATCH))


def test_an_infobatch_as_the_loaders_data_set_is_refused(whole: dict[str, Any]) -> None:
    ib = InfoBatch(Points(SAMPLES, 2), 3)
    (checkpoint,) = whole["folder"].glob("3-*.pt")
    for load_path in (None, str(checkpoint)):
        with pytest.raises(ValueError, match=r"got an InfoBatch.*DataLoader\(ib\.dataset"):
            fit(ib, DataLoader(ib, BATCH, sampler=ib.sampler), load_path=load_path)


def test_a_validation_loader_with_the_runs_sampler_is_refused() -> None:
    ib = InfoBatch(SAMPLES, 3)
    with pytest.raises(ValueError, match="a validation loader must not have the sampler of the run"):
        fit(ib, eval_dataloader=DataLoader(Points(SAMPLES, 2), BATCH, sampler=ib.sampler))


@pytest.mark.parametrize("batches", [1, 37])
def test_epochs_that_are_cut_are_refused(batches: int) -> None:
    with pytest.raises(ValueError, match=f"train_subset_num_batches must be absent, got {batches} of 38"):
        fit(InfoBatch(SAMPLES, 3), train_subset_num_batches=batches)


def test_batches_that_may_be_tried_once_more_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ib = InfoBatch(SAMPLES, 3)
    algorithm = InfoBatchAlgorithm(ib)
    check = algorithm._check

    def on_a_gpu(state: Any) -> None:  # Composer itself refuses 'auto' on a CPU
        state.auto_microbatching = True
        check(state)

    monkeypatch.setattr(algorithm, "_check", on_a_gpu)
    with pytest.raises(ValueError, match=r"device_train_microbatch_size\) must be a number, got 'auto'"):
        fit(ib, algorithm=algorithm)


def test_batches_of_the_run_need_the_size_of_a_microbatch() -> None:
    """Composer fails at the first batch: it takes the size from the loader's, which has none."""
    ib = InfoBatch(SAMPLES, 3)
    loader = DataLoader(Points(SAMPLES, 2), batch_sampler=ib.batch_sampler(BATCH))
    with pytest.raises(
        ValueError, match=r"device_train_microbatch_size\) must be a number with batch_sampler="
    ):
        fit(ib, loader)


def test_what_is_no_infobatch_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an InfoBatch, got list"):
        InfoBatchAlgorithm([])  # type: ignore[arg-type]


def test_a_checkpoint_without_the_run_is_refused(tmp_path: Path) -> None:
    ib = InfoBatch(SAMPLES, 3)
    model = Model(ib, False, 0.0)
    optimizer = torch.optim.SGD(model.parameters(), TOP_RATE)
    loader = DataLoader(Points(SAMPLES, 2), BATCH, sampler=ib.sampler)
    how: dict[str, Any] = {"device": "cpu", "progress_bar": False, "optimizers": optimizer}
    other = Trainer(model=model, train_dataloader=loader, max_duration="1ep", **how)
    other.fit()
    other.save_checkpoint(str(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="must have the state of the run, got none in that of batch 38"):
        fit(InfoBatch(SAMPLES, 3), load_path=str(tmp_path / "other.pt"))
    fit(InfoBatch(SAMPLES, 3), load_path=str(tmp_path / "other.pt"), load_weights_only=True)


def test_a_duration_in_batches_is_let_through_but_not_for_composers_schedules(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=4, duration="50ba")
    assert found["batch"] == 50
    with pytest.raises(ValueError, match=r"max_duration\) must be in epochs, got '50ba'"):
        train(tmp_path, epochs=4, duration="50ba", schedule="composer")


@pytest.mark.parametrize(
    ("epochs", "text"), [(3, "got 3: progress does not reach 1"), (4, None), (5, "from epoch 4 on progress")]
)
def test_another_number_of_epochs_than_the_runs_is_warned_of(epochs: int, text: str | None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InfoBatchWarning)
        fit(InfoBatch(SAMPLES, 4), epochs=epochs)
    found = [str(one.message) for one in caught if issubclass(one.category, InfoBatchWarning)]
    assert len(found) == (text is not None)
    assert text is None or text in found[0]


def test_without_composer_the_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without("composer", monkeypatch)
    with pytest.raises(ImportError, match=r"needs Composer.*pip install infobatch\[composer\]"):
        importlib.import_module("infobatch.composer")


def test_the_example(tmp_path: Path) -> None:
    output = example("composer_trainer.py", tmp_path, "composer")
    kept = [int(number) for number in re.findall(r"epoch \d: (\d+) of 4000", output)]
    assert len(kept) == 8
    assert kept[0] == kept[-1] == 4000 > min(kept)
    assert 10 < float(re.findall(r"(\S+)% of the samples saved", output)[0]) < 50
    assert float(re.findall(r"accuracy (\d\.\d+)", output)[0]) > 0.65
    assert "rate 0.0200 at the end" in output
