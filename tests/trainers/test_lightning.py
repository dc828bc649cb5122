"""InfoBatch in Lightning: its Trainer on one process and on two, its checkpoints, its logger; Fabric."""

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="Lightning is not installed (make test-trainers)")

import lightning_run
import torch
from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning_run import BATCH, SAMPLES, TOP_RATE, Data, Model, Points, Watch, train
from torch.nn import functional
from torch.utils.data import DataLoader

from infobatch import InfoBatch, InfoBatchWarning, RankError
from infobatch._ranks import Ranks
from infobatch.lightning import InfoBatchCallback

EPOCHS = 6
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def ids_of(result: dict[str, Any]) -> list[int]:
    return [sample for epoch in result["epochs"] for batch in epoch["ids"] for sample in batch]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing interrupts; a checkpoint each epoch, behind it and behind its validation."""
    folder = tmp_path_factory.mktemp("whole")
    return {**train(folder, epochs=EPOCHS, keep={}), "folder": str(folder)}


def test_it_learns_and_saves(whole: dict[str, Any]) -> None:
    assert whole["accuracy"] > 0.9
    assert 0.1 < whole["saved"] < 0.5
    assert any(epoch["kept"] < SAMPLES for epoch in whole["epochs"][1:-1])
    assert (
        whole["epochs"][0]["kept"] == whole["epochs"][-1]["kept"] == SAMPLES
    )  # the last one sees everything


def test_every_epoch_is_as_long_as_its_plan_and_ends_with_a_validation(whole: dict[str, Any]) -> None:
    for epoch in whole["epochs"]:
        batches = math.ceil(epoch["kept"] / BATCH)
        assert epoch["batches"] == len(epoch["ids"]) == batches
        assert epoch["bar"][1] == batches  # what the progress bar counts to
        assert len({sample for batch in epoch["ids"] for sample in batch}) == epoch["kept"]
    assert [epoch["epoch"] for epoch in whole["epochs"]] == list(range(EPOCHS))
    assert whole["validations"] == EPOCHS


def test_the_logger_shows_kept_saved_and_mean_score(whole: dict[str, Any]) -> None:
    rows = [row for row in whole["rows"] if "infobatch/kept" in row]
    assert [row["infobatch/kept"] for row in rows] == [epoch["kept"] for epoch in whole["epochs"]]
    assert rows[-1]["infobatch/saved"] == pytest.approx(whole["saved"])
    assert "infobatch/mean_score" not in rows[0]
    assert all(0 < row["infobatch/mean_score"] < 5 for row in rows[1:])
    logged = (Path(whole["folder"]) / "lightning_logs/version_0/metrics.csv").read_text()
    assert "infobatch/mean_score" in logged.splitlines()[0]


def test_the_learning_rate_ends_at_0(whole: dict[str, Any]) -> None:
    assert whole["rate"] == pytest.approx(0.0, abs=1e-9)


def test_a_schedule_that_counts_steps_ends_where_it_should(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, schedule="steps")
    assert found["rate"] == pytest.approx(TOP_RATE / 25 / 1e4, rel=1e-3)


def test_a_checkpoint_of_an_epochs_end_goes_on_to_the_bit(whole: dict[str, Any], tmp_path: Path) -> None:
    resumed = train(tmp_path, epochs=EPOCHS, keep={}, resume=f"{whole['folder']}/epoch=2.ckpt")
    assert resumed["weights"] == whole["weights"]
    assert resumed["scores"] == whole["scores"]
    assert resumed["epochs"] == whole["epochs"][3:]
    assert resumed["validations"] == EPOCHS - 3


BEHIND_VALIDATION = {"epochs": 8, "bar": False, "keep": {"save_on_train_epoch_end": False}}


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A run that nothing interrupts, whose checkpoints are written behind a validation."""
    folder = tmp_path_factory.mktemp("validated")
    return train(folder, **BEHIND_VALIDATION), folder


@pytest.mark.parametrize(("workers", "epoch"), [(0, 3), (2, 3), (0, 6)])
def test_a_checkpoint_between_the_last_batch_and_the_epochs_end_goes_on(
    workers: int, epoch: int, validated: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """As Lightning writes it behind a validation: its epoch is not over there, that of the run is."""
    alone, folder = validated
    lengths = [found["batches"] for found in alone["epochs"][epoch : epoch + 2]]
    assert lengths[0] > lengths[1] if epoch == 3 else lengths[0] < lengths[1]  # the next one is another
    how = {**BEHIND_VALIDATION, "workers": workers}
    resumed = train(tmp_path, resume=f"{folder}/epoch={epoch}.ckpt", **how)
    assert resumed["weights"] == alone["weights"]
    assert resumed["scores"] == alone["scores"]
    assert ids_of(resumed) == ids_of(alone)[-len(ids_of(resumed)) :]
    assert resumed["global_step"] == alone["global_step"]


@pytest.mark.parametrize(("workers", "batches"), [(0, False), (2, False), (2, True)])
def test_a_checkpoint_of_any_step_goes_on_with_the_rest_of_its_epoch(
    workers: int, batches: bool, tmp_path: Path
) -> None:
    how = {"epochs": 4, "workers": workers, "batches": batches, "schedule": "steps", "bar": False}
    alone = train(tmp_path, **how)
    assert len(alone["epochs"]) == 4
    assert alone["epochs"][2]["kept"] < SAMPLES
    checkpoint = str(tmp_path / "middle.ckpt")
    begun = train(tmp_path, stop_at_step=70, checkpoint=checkpoint, **how)
    resumed = train(tmp_path, resume=checkpoint, **how)
    assert len(ids_of(begun)) > SAMPLES  # in the midst of an epoch that prunes
    assert ids_of(begun) + ids_of(resumed) == ids_of(alone)
    assert resumed["weights"] == alone["weights"]
    assert resumed["rate"] == alone["rate"]


def test_a_checkpoint_of_an_epochs_last_step_is_refused(tmp_path: Path) -> None:
    """Lightning would go on in the midst of the next epoch, behind as many steps as the last one had."""
    how = {"epochs": EPOCHS, "schedule": "steps"}
    checkpoint = str(tmp_path / "last.ckpt")
    train(tmp_path, stop_at_step=math.ceil(SAMPLES / BATCH), checkpoint=checkpoint, **how)
    with pytest.raises(ValueError, match=r"must not be that of an epoch's last step.*behind step 38"):
        train(tmp_path, resume=checkpoint, **how)


def test_early_stopping_in_bfloat16(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, early=True, trainer={"precision": "bf16-mixed"})
    assert len(found["epochs"]) == 2  # one that did not improve by enough
    assert [len(epoch["ids"]) for epoch in found["epochs"]] == [
        math.ceil(epoch["kept"] / BATCH) for epoch in found["epochs"]
    ]


def test_accumulation_takes_every_loss(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, trainer={"accumulate_grad_batches": 3})
    assert all(len(epoch["ids"]) == math.ceil(epoch["kept"] / BATCH) for epoch in found["epochs"])
    assert found["saved"] > 0.1


# --- two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two processes, which Lightning starts, found in each training: one that nothing interrupts, one
    that goes on from a checkpoint of it, and one with batches of the InfoBatch."""
    folder = tmp_path_factory.mktemp("ranks")
    options = {"epochs": EPOCHS, "bar": False, "trainer": {"devices": 2, "strategy": "ddp"}}
    trainings = [
        {**options, "keep": {}},
        {**options, "keep": {}, "resume": f"{folder}/0/epoch=2.ckpt"},
        {**options, "batches": True},
    ]
    mine = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, lightning_run.__file__, str(folder), json.dumps(trainings)],
        capture_output=True, text=True, timeout=240, env={**os.environ, **mine},
    )  # fmt: skip
    files = [folder / f"rank-{rank}.json" for rank in range(2)]
    assert all(file.is_file() for file in files), done.stdout + done.stderr
    return list(zip(*(json.loads(file.read_text()) for file in files), strict=True))


def test_two_processes_have_equal_scores_and_go_on_from_a_checkpoint(ranks: Any) -> None:
    alone, resumed, _ = ranks
    for left, right in zip(alone[0]["epochs"], alone[1]["epochs"], strict=True):
        assert left["batches"] == right["batches"] == math.ceil(math.ceil(left["kept"] / 1) / BATCH)
        mine = [{sample for batch in epoch["ids"] for sample in batch} for epoch in (left, right)]
        assert len(mine[0] & mine[1]) <= 1  # padding alone is on both
        assert SAMPLES / 4 < len(mine[0] | mine[1]) <= SAMPLES
    assert len({frozenset(ids_of(result)) for result in alone}) == 2
    assert alone[0]["scores"] == alone[1]["scores"]
    assert alone[0]["weights"] == alone[1]["weights"]
    assert alone[0]["accuracy"] > 0.9
    assert 0.1 < alone[0]["saved"] < 0.5
    assert alone[0]["validations"] == EPOCHS
    rows = [row for row in alone[0]["rows"] if "infobatch/kept" in row]
    assert len(rows) == EPOCHS
    for before, after in zip(alone, resumed, strict=True):
        assert after["weights"] == before["weights"]
        assert after["scores"] == before["scores"]
        assert ids_of(after) == ids_of(before)[-len(ids_of(after)) :]


def test_a_batch_sampler_that_lightning_would_deal_out_once_more_is_refused(ranks: Any) -> None:
    for found in ranks[2]:
        assert "use_distributed_sampler=False" in found["refused"]


# --- refusals


def fit(callback: Callable[[InfoBatch], Any] = InfoBatchCallback, **options: Any) -> None:
    data = Data({"epochs": EPOCHS})
    data.setup("fit")
    trainer = Trainer(max_epochs=EPOCHS, callbacks=[callback(data.ib)], **QUIET, **options)
    trainer.fit(Model(data, {"epochs": EPOCHS}), data)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit_train_batches": 0.5}, "limit_train_batches must be 1.0, got 0.5"),
        ({"limit_train_batches": 1}, "limit_train_batches must be 1.0, got 1"),
        ({"overfit_batches": 2}, "overfit_batches must be 0, got 2"),
        (
            {"reload_dataloaders_every_n_epochs": 2},
            "reload_dataloaders_every_n_epochs must be 1 or absent, got 2",
        ),
        ({"val_check_interval": 30}, "must be a share of the epoch, as 0.25, got 30 batches"),
    ],
)
def test_options_that_break_an_epoch_off_are_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fit(**options)


def test_a_trial_of_one_batch_is_none() -> None:
    fit(fast_dev_run=True)


def test_a_loader_of_another_run_is_refused() -> None:
    other = InfoBatch(SAMPLES, EPOCHS)
    with pytest.raises(ValueError, match=r"must have sampler=ib\.sampler"):
        fit(callback=lambda ib: InfoBatchCallback(other))


def test_what_is_no_infobatch_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an InfoBatch or a function that returns one, got list"):
        fit(callback=lambda ib: InfoBatchCallback(list))  # type: ignore[arg-type,return-value]
    with pytest.raises(RuntimeError, match="made when fit begins"):
        InfoBatchCallback(lambda: InfoBatch(4, 2)).infobatch  # noqa: B018


def test_batches_between_validations_may_be_counted_over_epochs() -> None:
    fit(val_check_interval=30, check_val_every_n_epoch=None)


@pytest.mark.parametrize(
    ("mode", "other", "refused"),
    [
        ("max_size_cycle", 1200, "got 75 by another loader beside it, in mode 'max_size_cycle'.*repeat its"),
        ("min_size", 100, "got 7 by another loader beside it, in mode 'min_size'.*cut its epochs"),
        ("max_size_cycle", 100, None),
        ("min_size", 1200, None),
        ("max_size", 1200, None),
    ],
)
def test_several_loaders_must_not_change_the_length_of_an_epoch(
    mode: str, other: int, refused: str | None
) -> None:
    class Two(Data):
        def train_dataloader(self) -> Any:
            loaders = [super().train_dataloader(), DataLoader(Points(other, 4), BATCH)]
            return CombinedLoader(loaders, mode)

    class First(Model):
        def training_step(self, batch: Any, index: int) -> Any:
            if batch[0] is None:
                return None
            delivered.append(len(batch[0][2]))
            return super().training_step(batch[0], index)

    data, delivered = Two({"epochs": 3}), []
    trainer = Trainer(max_epochs=3, callbacks=[InfoBatchCallback(lambda: data.ib)], **QUIET)
    if refused is not None:
        with pytest.raises(ValueError, match=f"must have the 38 batches of the run's loader, {refused}"):
            trainer.fit(First(data, {}), data)
        assert not delivered
        return
    trainer.fit(First(data, {}), data)
    assert sum(delivered) == data.ib.statistics.samples_planned


def test_a_validation_loader_with_the_runs_sampler_is_refused() -> None:
    class Same(Data):
        def val_dataloader(self) -> Any:
            return self.train_dataloader()

    data = Same({"epochs": 3})
    trainer = Trainer(max_epochs=3, callbacks=[InfoBatchCallback(lambda: data.ib)], **QUIET)
    with pytest.raises(ValueError, match="a validation loader must not have the sampler of the run"):
        trainer.fit(Model(data, {}), data)


@pytest.mark.parametrize(
    ("epochs", "text"), [(3, "got 3: progress does not reach 1"), (4, None), (5, "from epoch 4 on progress")]
)
def test_another_number_of_epochs_than_the_runs_is_warned_of(epochs: int, text: str | None) -> None:
    data = Data({"epochs": 4})
    trainer = Trainer(max_epochs=epochs, callbacks=[InfoBatchCallback(lambda: data.ib)], **QUIET)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InfoBatchWarning)
        trainer.fit(Model(data, {}), data)
    found = [str(one.message) for one in caught if issubclass(one.category, InfoBatchWarning)]
    assert len(found) == (text is not None)
    assert text is None or text in found[0]


# --- a run that is there already


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_was_trained_before_begins_anew(workers: int) -> None:
    """As where a cell of a notebook is run again: workers have begun to fetch before an epoch is set."""
    data = Data({"epochs": 4, "workers": workers})
    data.setup("fit")
    for epochs in (2, 4):
        watch = Watch({"bar": False})
        trainer = Trainer(max_epochs=epochs, callbacks=[InfoBatchCallback(data.ib), watch], **QUIET)
        trainer.fit(Model(data, {}), data)
    assert [epoch["epoch"] for epoch in watch.epochs] == list(range(4))
    for epoch in watch.epochs:
        assert len({sample for batch in epoch["ids"] for sample in batch}) == epoch["kept"]
    assert watch.epochs[0]["kept"] == SAMPLES
    assert watch.epochs[1]["kept"] < SAMPLES


def test_a_checkpoint_that_is_only_validated_does_not_move_the_run(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    data = Data({"epochs": EPOCHS})
    trainer = Trainer(max_epochs=EPOCHS, callbacks=[InfoBatchCallback(lambda: data.ib)], **QUIET)
    checkpoint = f"{whole['folder']}/epoch=2.ckpt"
    model = Model(data, {})
    trainer.validate(model, data, ckpt_path=checkpoint)  # before there is a run
    trainer.fit(model, data)
    state = data.ib.state_dict()["infobatch"]
    trainer.validate(model, data, ckpt_path=checkpoint)
    assert torch.equal(data.ib.state_dict()["infobatch"], state)


def test_a_checkpoint_without_the_run_is_refused(tmp_path: Path) -> None:
    data = Data({"epochs": EPOCHS})
    data.setup("fit")
    trainer = Trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1, **QUIET)
    trainer.fit(Model(data, {}), data)
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"must have the state of the run, got none in .*other\.ckpt"):
        train(tmp_path, epochs=EPOCHS, resume=str(tmp_path / "other.ckpt"))


class _Alone(Ranks):
    """Ranks of which the other one never comes."""

    def meet(self, what: str) -> None:
        raise RankError(f"rank 1 has not within {self.timeout:g} seconds", (1,))

    fail = gather = largest = meet  # type: ignore[assignment]


def test_behind_an_exception_other_ranks_are_not_waited_for_long() -> None:
    data = Data({"epochs": EPOCHS})
    callback = InfoBatchCallback(lambda: data.ib)
    fit_a_batch = Trainer(fast_dev_run=1, callbacks=[callback], **QUIET)
    fit_a_batch.fit(Model(data, {}), data)
    data.ib._here.ranks = _Alone(0, 2, 1800.0)
    with pytest.raises(RankError, match="within 1800 seconds"):
        callback.state_dict()
    callback.on_exception(fit_a_batch, fit_a_batch.lightning_module, ValueError())
    with pytest.warns(InfoBatchWarning, match="has no state of the run: rank 1 has not within 30 seconds"):
        assert callback.state_dict() == {}


# --- Fabric


def fabric_run(
    state: dict[str, Any] | None = None, setup: bool = False, stop: int = EPOCHS
) -> dict[str, Any]:
    """A loop under Fabric, from the beginning or from a state."""
    torch.manual_seed(7)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    ib = InfoBatch(Points(SAMPLES, 2), EPOCHS, seed=5)
    loader: Any = DataLoader(ib, batch_size=BATCH, sampler=ib.sampler, num_workers=0)
    net = torch.nn.Linear(8, lightning_run.CLASSES)
    model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=TOP_RATE))
    if state is not None:
        ib.load_state_dict(state["ib"])
        net.load_state_dict(state["net"])
    if setup:
        loader = fabric.setup_dataloaders(loader)
    ids: list[int] = []
    while ib.epoch < stop:
        for batch in loader:
            points, classes, samples = fabric.to_device(batch)
            loss = ib.update(functional.cross_entropy(model(points), classes, reduction="none"))
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            ids += samples.tolist()
    right = (net(Points(200, 3).points).argmax(1) == Points(200, 3).classes).float().mean()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    return {
        "ids": ids,
        "ib": ib.state_dict(),
        "net": kept,
        "saved": ib.statistics.saved,
        "accuracy": float(right),
    }


def test_fabric_trains_and_resumes() -> None:
    alone = fabric_run()
    assert alone["accuracy"] > 0.9
    assert alone["saved"] > 0.1
    half = fabric_run(stop=3)
    rest = fabric_run(half)
    assert half["ids"] + rest["ids"] == alone["ids"]
    assert all(torch.equal(rest["net"][name], alone["net"][name]) for name in alone["net"])


def test_a_loader_that_fabric_counts_is_the_same_and_refused_behind_a_load() -> None:
    alone = fabric_run()
    assert fabric_run(setup=True)["ids"] == alone["ids"]
    with pytest.raises(ValueError, match=r"must not lie before epoch 2, which was loaded, got 0.*to_device"):
        fabric_run(fabric_run(stop=3), setup=True)
