"""InfoBatch in MMEngine's Runner, on one process and on two: checkpoints, schedules, accumulation, logs."""

import importlib
import json
import math
import re
import warnings
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine.runner", reason="MMEngine is not installed (make test-trainers ALL=1)")

import torch
from mmengine.runner import Runner
from mmengine_run import TOP_RATE, settings, train
from points import BATCH, SAMPLES
from processes import example, launch, without

from infobatch import InfoBatch, InfoBatchWarning
from infobatch.mmengine import InfoBatchHook

EPOCHS = 6
FULL = math.ceil(SAMPLES / BATCH)
EACH_ITERATION = {"by_epoch": False}


def batches_of(result: dict[str, Any]) -> list[list[int]]:
    return [batch for epoch in result["epochs"] for batch in epoch["ids"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing interrupts; a checkpoint each epoch, and the best one behind a validation."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    how = {"epochs": EPOCHS, "keep": {"save_best": "accuracy", "rule": "less"}}
    return {**train(folder, **how), "folder": folder}


def test_it_learns_and_saves(whole: dict[str, Any]) -> None:
    assert whole["validations"][-1] > 0.9
    assert 0.1 < whole["saved"] < 0.5
    assert any(epoch["kept"] < SAMPLES for epoch in whole["epochs"][1:-1])
    assert whole["epochs"][0]["kept"] == whole["epochs"][-1]["kept"] == SAMPLES


def test_every_epoch_is_as_long_as_its_plan_and_ends_with_a_validation(whole: dict[str, Any]) -> None:
    for epoch in whole["epochs"]:
        assert epoch["batches"] == len(epoch["ids"]) == math.ceil(epoch["kept"] / BATCH)
        assert len({sample for batch in epoch["ids"] for sample in batch}) == epoch["kept"]
    assert [epoch["epoch"] for epoch in whole["epochs"]] == list(range(EPOCHS))
    assert len(whole["validations"]) == EPOCHS
    assert whole["iter"] == len(batches_of(whole))


def test_the_log_counts_to_the_length_of_the_epoch(whole: dict[str, Any]) -> None:
    shown = {(int(epoch) - 1, int(length)) for epoch, _, length in whole["shown"]}
    assert shown == {(epoch["epoch"], epoch["batches"]) for epoch in whole["epochs"]}


def test_visualizers_show_kept_saved_and_mean_score(whole: dict[str, Any]) -> None:
    rows = [row for row in whole["rows"] if "infobatch/kept" in row]
    assert [row["infobatch/kept"] for row in rows] == [epoch["kept"] for epoch in whole["epochs"]]
    assert [row["step"] for row in rows] == list(accumulate(epoch["batches"] for epoch in whole["epochs"]))
    assert rows[-1]["infobatch/saved"] == pytest.approx(whole["saved"])
    assert "infobatch/mean_score" not in rows[0]
    assert all(0 < row["infobatch/mean_score"] < 5 for row in rows[1:])


def test_a_schedule_by_iterations_is_where_the_run_is_and_ends_where_it_should(whole: dict[str, Any]) -> None:
    assert whole["rate"] == pytest.approx(0.0, abs=1e-9)
    steps, due = EPOCHS * FULL, []
    done = 0.0
    for epoch in whole["epochs"]:
        for batch in epoch["ids"]:
            due.append(TOP_RATE * (1 - round(done * FULL) / (steps - 1)))
            done += len(batch) / epoch["kept"]
    assert whole["rates"] == pytest.approx(due, abs=1.01 * TOP_RATE / steps)  # a step to either side
    assert whole["rates"][FULL:] == pytest.approx(due[FULL:])


def test_a_schedule_that_is_converted_ends_where_it_should(tmp_path: Path) -> None:
    found = train(tmp_path / "run", epochs=EPOCHS, schedule="converted")
    assert found["rate"] == pytest.approx(TOP_RATE / 4, rel=1e-3)


def test_a_schedule_by_epochs_is_left_as_it_is(tmp_path: Path) -> None:
    found = train(tmp_path / "run", epochs=EPOCHS, schedule="epochs")
    lengths = [epoch["batches"] for epoch in found["epochs"]]
    due = [TOP_RATE * 0.1 ** (epoch // 2) for epoch, length in enumerate(lengths) for _ in range(length)]
    assert found["rates"] == pytest.approx(due)


def test_a_checkpoint_of_an_epochs_end_goes_on_to_the_bit(whole: dict[str, Any], tmp_path: Path) -> None:
    begin = 3
    resumed = train(tmp_path / "run", epochs=EPOCHS, resume=str(whole["folder"] / f"epoch_{begin}.pth"))
    assert resumed["epochs"] == whole["epochs"][begin:]
    for key in ("weights", "scores", "rate", "saved"):
        assert resumed[key] == whole[key], key
    assert resumed["rates"] == whole["rates"][-len(resumed["rates"]) :]
    assert resumed["validations"] == whole["validations"][begin:]


def test_the_best_checkpoint_has_the_run_as_well(whole: dict[str, Any], tmp_path: Path) -> None:
    """Written behind a validation, without the optimizer: the plan is the same, the weights are not."""
    (checkpoint,) = whole["folder"].glob("best_accuracy_epoch_*.pth")
    resumed = train(tmp_path / "run", epochs=EPOCHS, resume=str(checkpoint))
    begin = int(checkpoint.stem.rsplit("_", 1)[1])
    assert resumed["epochs"][0] == whole["epochs"][begin]


@pytest.mark.parametrize(
    "options",
    [{}, {"workers": 2}, {"drop_last": True}, {"parts": 3, "hooks": {"sampler_seed": None}}],
    ids=str,
)
def test_a_checkpoint_of_any_iteration_goes_on_to_the_bit(options: dict[str, Any], tmp_path: Path) -> None:
    """In the midst of an epoch, and behind the last iteration of one, whose end has not come yet."""
    how = {"epochs": 4, **options}
    alone = train(tmp_path / "alone", **how, keep=EACH_ITERATION)
    lengths = [len(epoch["ids"]) for epoch in alone["epochs"]]
    assert lengths[0] > lengths[1]
    assert lengths[2] < lengths[3]
    ends = list(accumulate(lengths))
    for behind in (ends[0] + 9, ends[1], ends[2], ends[2] + 21):
        checkpoint = str(tmp_path / "alone" / f"iter_{behind}.pth")
        resumed = train(tmp_path / f"behind-{behind}", **how, resume=checkpoint)
        assert batches_of(resumed) == batches_of(alone)[behind:]
        for key in ("weights", "scores", "rate", "saved", "iter"):
            assert resumed[key] == alone[key], (key, behind)
        begin = resumed["epochs"][0]["epoch"]
        assert begin == sum(end < behind for end in ends)
        # A length is that of a whole epoch, also of the one in whose midst it goes on.
        later = {epoch["epoch"]: epoch["batches"] for epoch in resumed["epochs"] if epoch["ids"]}
        assert {epoch: lengths[epoch] for epoch in later} == later
        assert resumed["validations"] == alone["validations"][begin:]


def test_the_last_iteration_of_an_epoch_makes_a_step(tmp_path: Path) -> None:
    found = train(tmp_path / "run", epochs=EPOCHS, parts=3)
    assert any(epoch["batches"] % 3 for epoch in found["epochs"])
    for epoch in found["epochs"]:
        assert epoch["steps"] == math.ceil(epoch["batches"] / 3)


# --- two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two processes found in each training: two that nothing interrupts, with checkpoints by epochs and
    by iterations, and those that go on from them."""
    trainings: list[dict[str, Any]] = [
        {"epochs": EPOCHS, "keep": {"save_best": "accuracy", "rule": "less"}},
        {"epochs": EPOCHS, "resume": [0, "epoch_2.pth"]},
        {"epochs": EPOCHS, "resume": [0, "best_accuracy_epoch_1.pth"]},
        {"epochs": EPOCHS, "keep": {**EACH_ITERATION, "interval": 25}},
        {"epochs": EPOCHS, "resume": [3, "iter_25.pth"]},
    ]
    folder = tmp_path_factory.mktemp("ranks")
    found = launch("mmengine/mmengine_run.py", 2, folder, 300, "mmengine.runner", (json.dumps(trainings),))
    return list(zip(*found, strict=True))


def test_two_processes_have_equal_scores_and_weights(ranks: Any) -> None:
    alone = ranks[0]
    for left, right in zip(alone[0]["epochs"], alone[1]["epochs"], strict=True):
        assert left["batches"] == right["batches"] == len(left["ids"]) == len(right["ids"])
        mine = [{sample for batch in epoch["ids"] for sample in batch} for epoch in (left, right)]
        assert len(mine[0] & mine[1]) <= 1  # padding alone is on both
        assert SAMPLES / 4 < len(mine[0] | mine[1]) <= SAMPLES
    assert alone[0]["scores"] == alone[1]["scores"]
    assert alone[0]["weights"] == alone[1]["weights"]
    assert alone[0]["validations"][-1] > 0.9
    assert 0.1 < alone[0]["saved"] < 0.5
    assert alone[0]["rate"] == pytest.approx(0.0, abs=1e-9)
    assert len([row for row in alone[0]["rows"] if "infobatch/kept" in row]) == EPOCHS


@pytest.mark.parametrize(("turn", "of", "epoch"), [(1, 0, 2), (4, 3, 1)])
def test_two_processes_go_on_to_the_bit(turn: int, of: int, epoch: int, ranks: Any) -> None:
    for before, after in zip(ranks[of], ranks[turn], strict=True):
        for key in ("weights", "scores", "rate", "saved"):
            assert after[key] == before[key], key
        assert after["epochs"][0]["epoch"] == epoch
        assert after["epochs"][1:] == before["epochs"][epoch + 1 :]
    if turn == 4:  # in the midst of the second epoch
        behind = 25 - ranks[3][0]["epochs"][0]["batches"]
        assert 0 < behind < ranks[3][0]["epochs"][1]["batches"]
        assert ranks[4][0]["epochs"][0]["ids"] == ranks[3][0]["epochs"][1]["ids"][behind:]


def test_on_two_processes_the_best_checkpoint_has_the_run_as_well(ranks: Any) -> None:
    for before, after in zip(ranks[0], ranks[2], strict=True):
        assert after["epochs"][0] == before["epochs"][1]


# --- refusals


def refused(text: str, tmp_path: Path, change: dict[str, Any], **options: Any) -> None:
    config = settings(tmp_path / "run", epochs=3, **options)
    for path, value in change.items():
        *outer, name = path.split(".")
        place = config
        for part in outer:
            place = place[part]
        if value is None:
            del place[name]
        else:
            place[name] = value
    runner = Runner(**config)
    with pytest.raises(ValueError, match=text):
        runner.train()


def test_a_loader_without_the_sampler_is_refused(tmp_path: Path) -> None:
    text = r"must have sampler=dict\(type='InfoBatchSampler'.*got DefaultSampler in a BatchSampler"
    refused(text, tmp_path, {"train_dataloader.sampler": {"type": "DefaultSampler"}})


def test_a_batch_sampler_with_an_order_of_its_own_is_refused(tmp_path: Path) -> None:
    batches = {"type": "ByHalves", "drop_last": False}
    refused(
        "no batch_sampler=, got SequentialSampler in a ByHalves",
        tmp_path,
        {"train_dataloader.batch_sampler": batches},
    )


def test_the_seed_is_the_runners_unless_it_is_given(tmp_path: Path) -> None:
    config = settings(tmp_path / "run", epochs=3)
    for seed in (None, 5):
        loader = {**config["train_dataloader"], "sampler": {"type": "InfoBatchSampler", "num_epochs": 3}}
        if seed is not None:
            loader["sampler"]["seed"] = seed
        made = Runner.build_dataloader(loader, seed=3)
        assert list(made.sampler.infobatch.plan.ids) == list(InfoBatch(SAMPLES, 3, seed=seed or 3).plan.ids)


def test_a_validation_loader_with_the_sampler_is_refused(tmp_path: Path) -> None:
    sampler = {"type": "InfoBatchSampler", "num_epochs": 3}
    refused("val_dataloader must not have an InfoBatchSampler", tmp_path, {"val_dataloader.sampler": sampler})


def test_a_loop_by_iterations_is_refused(tmp_path: Path) -> None:
    text = "must be by epochs, got IterBasedTrainLoop.*type='EpochBasedTrainLoop'"
    refused(text, tmp_path, {"train_cfg": {"by_epoch": False, "max_iters": 20}})


def test_an_unknown_option_of_the_run_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path / "run", epochs=3, infobatch={"policy": "none"})
    with pytest.raises(ValueError, match="policy"):
        Runner(**config).train()


def test_a_checkpoint_without_the_run_is_refused_and_its_weights_are_not(tmp_path: Path) -> None:
    config = settings(tmp_path / "other", epochs=3)
    config["custom_hooks"] = [{"type": "InfoBatchHook"}]
    runner = Runner(**config)
    runner.train()
    checkpoint = torch.load(tmp_path / "other" / "epoch_2.pth", weights_only=False)
    del checkpoint["infobatch"]
    torch.save(checkpoint, tmp_path / "none.pth")
    for load in (str(tmp_path / "none.pth"), str(tmp_path / "other" / "epoch_2.pth")):
        config = settings(tmp_path / "again", epochs=3)
        config["custom_hooks"] = [{"type": "InfoBatchHook"}]
        runner = Runner(**config, load_from=load)  # its weights alone
        runner.train()
        assert runner.iter > FULL * 2
    config = settings(tmp_path / "again", epochs=3)
    runner = Runner(**config, load_from=str(tmp_path / "none.pth"), resume=True)
    with pytest.raises(ValueError, match="must have the state of the run, got none in that of iteration"):
        runner.train()


def test_another_number_of_epochs_than_the_runs_is_warned_of(tmp_path: Path) -> None:
    for epochs, text in ((2, "got 2: progress does not"), (3, None), (4, "got 4: from epoch 3 on progress")):
        config = settings(tmp_path / f"run-{epochs}", epochs=3)
        config["train_cfg"]["max_epochs"] = epochs
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InfoBatchWarning)
            Runner(**config).train()
        found = [str(one.message) for one in caught if issubclass(one.category, InfoBatchWarning)]
        assert len(found) == (text is not None)
        assert text is None or text in found[0]


def test_on_several_ranks_a_checkpoint_that_one_of_them_writes_alone_is_warned_of(tmp_path: Path) -> None:
    """As that of a program which calls save_checkpoint in the midst of an epoch."""
    config = settings(tmp_path / "run", epochs=3)
    runner = Runner(**config)
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, InfoBatchHook))
    run = runner.train_dataloader.sampler.infobatch
    run._here.ranks = object()
    checkpoint: dict[str, Any] = {}
    with pytest.warns(InfoBatchWarning, match="this checkpoint has no state of the run"):
        hook.before_save_checkpoint(runner, checkpoint)
    assert not checkpoint


def test_without_mmengine_the_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without("mmengine", monkeypatch)
    with pytest.raises(ImportError, match=r"needs MMEngine.*pip install infobatch\[mmengine\]"):
        importlib.import_module("infobatch.mmengine")


def test_the_example(tmp_path: Path) -> None:
    output = example("mmengine_runner.py", tmp_path, "mmengine.runner")
    kept = [int(number) for number in re.findall(r"epoch \d: (\d+) of 4000", output)]
    assert len(kept) == 8
    assert kept[0] == kept[-1] == 4000 > min(kept)
    assert 10 < float(re.findall(r"(\S+)% of the samples saved", output)[0]) < 50
    assert float(re.findall(r"accuracy (\d\.\d+)", output)[0]) > 0.65
    assert "rate 0.0200 at the end" in output


def test_a_runner_without_the_hook_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path / "run", epochs=2)
    config["custom_hooks"] = []
    with pytest.raises(RuntimeError, match="InfoBatchSampler: the Runner must have the hook, got none"):
        Runner(**config).train()


def test_a_runner_that_trains_again_is_refused(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path / "run", epochs=2))
    runner.train()
    with pytest.raises(ValueError, match="a Runner must train once, got another train"):
        runner.train()
