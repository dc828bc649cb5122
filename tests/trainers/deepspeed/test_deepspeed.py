"""InfoBatch with DeepSpeed's engine: ZeRO 0, 1 and 2 on one process and on two, checkpoints, the monitor."""

import importlib
import json
import math
import re
import warnings
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepspeed.runtime", reason="DeepSpeed is not installed (make test-trainers ALL=1)")

import deepspeed
import torch
from deepspeed.pipe import PipelineModule
from deepspeed_run import TOP_RATE, network, settings, train
from points import BATCH, SAMPLES, Points
from processes import example, launch, without
from torch.nn import functional
from torch.utils.data import DataLoader

from infobatch import InfoBatch, InfoBatchWarning, progress_lr
from infobatch.deepspeed import Loader, prepare

EPOCHS, PARTS = 6, 3
#: Checkpoints that are gone on from, as epoch and step of it; -1 is its last.
BEHIND = ((1, 4), (1, -1), (5, 3))
STAGES = (0, 1, 2)


def number_of(result: dict[str, Any], epoch: int, step: int) -> int:
    """Steps of a training up to one of an epoch's."""
    ends = list(accumulate((found["steps"] for found in result["epochs"]), initial=0))
    return ends[epoch] + step if step > 0 else ends[epoch + 1] + 1 + step


def batches_of(result: dict[str, Any]) -> list[list[int]]:
    return [batch for epoch in result["epochs"] for batch in epoch["ids"]]


@pytest.fixture(scope="module", params=STAGES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing interrupts, with accumulation; a checkpoint behind each step."""
    folder = tmp_path_factory.mktemp("whole")
    how = {"epochs": EPOCHS, "parts": PARTS, "stage": request.param}
    return {**train(folder, **how, keep=True), "folder": folder, "how": how}


def test_it_learns_and_saves(whole: dict[str, Any]) -> None:
    assert whole["accuracy"] > 0.9
    assert 0.1 < whole["saved"] < 0.5
    assert any(epoch["kept"] < SAMPLES for epoch in whole["epochs"][1:-1])
    assert whole["epochs"][-1]["kept"] == SAMPLES


def test_every_epoch_is_as_long_as_its_plan_and_ends_with_a_step(whole: dict[str, Any]) -> None:
    for epoch in whole["epochs"]:
        seen = {sample for batch in epoch["ids"] for sample in batch}
        assert epoch["batches"] == len(epoch["ids"]) == math.ceil(len(seen) / BATCH)
        assert sum(map(len, epoch["ids"])) == len(seen)
        assert epoch["steps"] == math.ceil(epoch["batches"] / PARTS)
    assert any(epoch["batches"] % PARTS for epoch in whole["epochs"])  # a last step of fewer parts


def test_the_monitor_shows_kept_saved_and_mean_score(whole: dict[str, Any]) -> None:
    rows = whole["rows"]
    seen = [sum(map(len, epoch["ids"])) for epoch in whole["epochs"]]
    assert rows["infobatch_kept"] == seen
    assert rows["infobatch_saved"][-1] == pytest.approx(whole["saved"])
    assert len(rows["infobatch_mean_score"]) == EPOCHS - 1  # there is none in the first epoch
    assert all(0 < score < 5 for score in rows["infobatch_mean_score"])


def test_the_learning_rate_ends_at_0(whole: dict[str, Any]) -> None:
    assert whole["rate"] == pytest.approx(0.0, abs=1e-9)


def test_a_schedule_of_deepspeed_ends_where_it_does_without(tmp_path: Path) -> None:
    found = train(tmp_path, epochs=EPOCHS, parts=2, schedule="deepspeed")
    steps, warmup = EPOCHS * math.ceil(SAMPLES / BATCH / 2), 20
    assert found["steps"] < steps - 10
    assert found["rate"] == pytest.approx(TOP_RATE / (steps - warmup))
    rates = found["rows"]["Train_Samples_lr"]
    assert max(rates) == pytest.approx(TOP_RATE, rel=0.02)
    assert rates.index(max(rates)) in (warmup - 1, warmup, warmup + 1)


@pytest.mark.parametrize("place", BEHIND)
def test_a_checkpoint_of_any_step_goes_on_to_the_bit(
    place: tuple[int, int], whole: dict[str, Any], tmp_path: Path
) -> None:
    step = number_of(whole, *place)
    resumed = train(tmp_path, **whole["how"], resume=str(whole["folder"]), tag=f"step-{step}")
    behind = sum(found["batches"] for found in whole["epochs"][: place[0]])
    behind += place[1] * PARTS if place[1] > 0 else whole["epochs"][place[0]]["batches"]
    assert batches_of(resumed) == batches_of(whole)[behind:]
    for name in ("weights", "scores", "rate", "steps", "saved"):
        assert resumed[name] == whole[name], name
    # A length is that of a whole epoch, also of the one in whose midst it goes on.
    for epoch in resumed["epochs"]:
        assert epoch["batches"] == whole["epochs"][epoch["epoch"]]["batches"]


@pytest.mark.parametrize("options", [{"workers": 1, "parts": 2}, {"drop_last": True, "parts": 2}], ids=str)
def test_loaders_of_other_kinds_go_on_to_the_bit(options: dict[str, Any], tmp_path: Path) -> None:
    how = {"epochs": 4, **options}
    alone = train(tmp_path, **how, keep=True)
    step = number_of(alone, 2, 5)
    resumed = train(tmp_path / "again", **how, resume=str(tmp_path), tag=f"step-{step}")
    assert batches_of(resumed) == batches_of(alone)[-len(batches_of(resumed)) :]
    for name in ("weights", "scores", "rate", "steps"):
        assert resumed[name] == alone[name], name
    if options.get("drop_last"):
        assert {len(batch) for batch in batches_of(alone)} == {BATCH}
    for epoch in alone["epochs"]:
        assert epoch["steps"] == math.ceil(len(epoch["ids"]) / 2)


def test_its_steps_are_those_of_a_loop_of_torch(tmp_path: Path) -> None:
    """But for clipping, which DeepSpeed does at a norm of 1 unless it is told otherwise."""
    found = train(tmp_path, epochs=4, until=1, parts=PARTS, config={"gradient_clipping": 0.0})
    net = network()
    ib = InfoBatch(Points(SAMPLES, 2), 4, seed=5)
    optimizer = torch.optim.SGD(net.parameters(), TOP_RATE, momentum=0.5)
    schedule = progress_lr(optimizer, ib, lambda progress: 1 - progress)
    batches = math.ceil(SAMPLES / BATCH)
    assert batches % PARTS
    for count, (points, classes, ids) in enumerate(
        DataLoader(Points(SAMPLES, 2), BATCH, sampler=ib.sampler), 1
    ):
        assert ids.tolist() == found["epochs"][0]["ids"][count - 1]
        loss = ib.update(functional.cross_entropy(net(points), classes, reduction="none"))
        (loss / PARTS).backward()
        if count % PARTS == 0 or count == batches:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    for left, right in zip(net.parameters(), found["weights"], strict=True):
        assert left.detach().flatten().tolist() == pytest.approx(right, rel=1e-4, abs=1e-6)


# --- two processes

OTHERS: dict[str, dict[str, Any]] = {
    "split='global'": {"infobatch": {"split": "global"}},
    "here . of 2, got 0 of 1": {"infobatch": {"group": False}},
    "sequence_parallel_size must be 1, got 2": {
        "config": {"sequence_parallel_size": 2, "data_parallel_size": 1}
    },
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two processes found in each training: for each stage one that nothing interrupts, and one that
    goes on in the midst of an epoch; and those that are refused."""
    trainings: list[dict[str, Any]] = []
    for stage in STAGES:
        how = {"epochs": EPOCHS, "stage": stage, "parts": 2}
        trainings += [{**how, "keep": True}, {**how, "resume": [2 * stage, 14]}]
    trainings += [{"epochs": EPOCHS, **options} for options in OTHERS.values()]
    folder = tmp_path_factory.mktemp("ranks")
    found = launch("deepspeed/deepspeed_run.py", 2, folder, 300, "deepspeed", (json.dumps(trainings),))
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_have_equal_scores_and_weights(stage: int, ranks: Any) -> None:
    alone = ranks[2 * stage]
    for left, right in zip(alone[0]["epochs"], alone[1]["epochs"], strict=True):
        assert left["batches"] == right["batches"] == len(left["ids"]) == len(right["ids"])
        assert left["steps"] == math.ceil(left["batches"] / 2)
        mine = [{sample for batch in epoch["ids"] for sample in batch} for epoch in (left, right)]
        assert len(mine[0] & mine[1]) <= 1  # padding alone is on both
        assert SAMPLES / 4 < len(mine[0] | mine[1]) <= SAMPLES
    assert alone[0]["scores"] == alone[1]["scores"]
    assert alone[0]["weights"] == alone[1]["weights"]
    assert alone[0]["accuracy"] > 0.9
    assert 0.1 < alone[0]["saved"] < 0.5
    assert alone[0]["rate"] == pytest.approx(0.0, abs=1e-9)
    assert len(alone[0]["rows"]["infobatch_kept"]) == EPOCHS


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_go_on_to_the_bit(stage: int, ranks: Any) -> None:
    alone, resumed = ranks[2 * stage : 2 * stage + 2]
    assert resumed[0]["epochs"][0]["epoch"] == 1
    assert 0 < len(resumed[0]["epochs"][0]["ids"]) < resumed[0]["epochs"][0]["batches"]  # in its midst
    for before, after in zip(alone, resumed, strict=True):
        for name in ("weights", "scores", "rate", "steps", "saved"):
            assert after[name] == before[name], name
        assert after["epochs"][1:] == before["epochs"][2:]
    behind = 2 * (14 - alone[0]["epochs"][0]["steps"])
    assert resumed[0]["epochs"][0]["ids"] == alone[0]["epochs"][1]["ids"][behind:]


@pytest.mark.parametrize(("turn", "text"), list(enumerate(OTHERS, 2 * len(STAGES))))
def test_runs_that_do_not_go_with_the_engine_are_refused(turn: int, text: str, ranks: Any) -> None:
    for found in ranks[turn]:
        assert re.search(text, found["refused"]), found


# --- refusals


@pytest.fixture
def ready(tmp_path: Path) -> tuple[Any, InfoBatch, Loader]:
    """An engine, a run and its loader, with accumulation."""
    deepspeed.init_distributed("gloo", verbose=False)
    net, ib = network(), InfoBatch(Points(SAMPLES, 2), 4)
    optimizer = torch.optim.SGD(net.parameters(), TOP_RATE)
    engine, *_ = deepspeed.initialize(model=net, optimizer=optimizer, config=settings(tmp_path, parts=PARTS))
    return engine, ib, prepare(engine, ib, ib.dataset)


def step(engine: Any, ib: InfoBatch, batch: Any) -> None:
    engine.backward(ib.update(functional.cross_entropy(engine(batch[0]), batch[1], reduction="none")))
    engine.step()


def test_a_checkpoint_in_the_midst_of_a_step_is_refused(ready: Any, tmp_path: Path) -> None:
    engine, ib, loader = ready
    text = r"must be called behind a step of the optimizer.*gradients that were accumulated are not saved"
    loader.save_checkpoint(str(tmp_path), "begin")
    for count, batch in enumerate(loader, 1):
        with pytest.raises(RuntimeError, match=text):
            loader.save_checkpoint(str(tmp_path))
        step(engine, ib, batch)
        if count == PARTS:
            break
        with pytest.raises(RuntimeError, match=text):
            loader.save_checkpoint(str(tmp_path))
    assert engine.global_steps == 1
    loader.save_checkpoint(str(tmp_path))
    assert (tmp_path / "latest").read_text() == "global_step1"


def test_the_key_of_the_run_is_its_own(ready: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="client_state must not have the key 'infobatch'"):
        ready[2].save_checkpoint(str(tmp_path), client_state={"infobatch": 1})


def test_a_checkpoint_without_the_run_is_refused_and_its_weights_are_not(ready: Any, tmp_path: Path) -> None:
    engine, ib, loader = ready
    assert loader.load_checkpoint(str(tmp_path)) == (None, None)
    engine.save_checkpoint(str(tmp_path), "other", {"mine": 1})
    before = ib.state_dict()["infobatch"].clone()
    with pytest.raises(ValueError, match=r"must have the state of the run, got none in .*other"):
        loader.load_checkpoint(str(tmp_path))
    path, state = loader.load_checkpoint(str(tmp_path), load_module_only=True)
    assert "other" in path
    assert state["mine"] == 1
    assert torch.equal(ib.state_dict()["infobatch"], before)


def test_an_engine_that_goes_on_without_the_run_is_warned_of(ready: Any) -> None:
    """As behind engine.load_checkpoint, which has no state of the run."""
    engine, ib, loader = ready
    with warnings.catch_warnings():
        warnings.simplefilter("error", InfoBatchWarning)
        for batch in loader:
            step(engine, ib, batch)
    again = InfoBatch(Points(SAMPLES, 2), 4)
    with pytest.warns(InfoBatchWarning, match="steps of the engine and none of the run: load a"):
        next(iter(prepare(engine, again, again.dataset)))


def test_behind_a_load_another_checkpoint_may_be_written_at_once(ready: Any, tmp_path: Path) -> None:
    engine, ib, loader = ready
    loader.save_checkpoint(str(tmp_path), "begin", {"mine": 1})
    for batch in loader:
        step(engine, ib, batch)  # the first of an accumulation
        break
    _, state = loader.load_checkpoint(str(tmp_path))
    assert state["mine"] == 1
    assert "infobatch" not in state
    loader.save_checkpoint(str(tmp_path), "again")


def test_weights_alone_leave_the_run_as_it_is(ready: Any, tmp_path: Path) -> None:
    engine, ib, loader = ready
    loader.save_checkpoint(str(tmp_path))
    for batch in loader:
        step(engine, ib, batch)
    loader.load_checkpoint(str(tmp_path), load_module_only=True)
    assert ib.epoch == 1
    loader.load_checkpoint(str(tmp_path))
    assert ib.epoch == 0


def test_behind_an_epoch_the_engine_counts_by_itself(ready: Any) -> None:
    engine, ib, loader = ready
    seen = []
    for batch in loader:
        seen.append(engine.is_gradient_accumulation_boundary())
        step(engine, ib, batch)
    assert seen == [(count + 1) % PARTS == 0 for count in range(37)] + [True]
    after = []
    for _ in range(PARTS):
        after.append(engine.is_gradient_accumulation_boundary())
        engine.micro_steps += 1
    assert after.count(True) == 1


def test_training_data_of_deepspeeds_own_loader_is_refused(tmp_path: Path) -> None:
    net, ib = network(), InfoBatch(SAMPLES, 4)
    engine, *_ = deepspeed.initialize(
        model=net, optimizer=torch.optim.SGD(net.parameters(), 0.1), config=settings(tmp_path),
        training_data=Points(SAMPLES, 2),
    )  # fmt: skip
    with pytest.raises(ValueError, match="must not have training_data"):
        prepare(engine, ib, Points(SAMPLES, 2))


def test_a_pipeline_is_refused(tmp_path: Path) -> None:
    net = PipelineModule([torch.nn.Linear(8, 4)], num_stages=1, loss_fn=functional.cross_entropy)
    engine, *_ = deepspeed.initialize(
        model=net, optimizer=torch.optim.SGD(net.parameters(), 0.1), config=settings(tmp_path)
    )
    with pytest.raises(ValueError, match=r"got a PipelineEngine.*without PipelineModule"):
        prepare(engine, InfoBatch(SAMPLES, 4), Points(SAMPLES, 2))


def test_other_data_and_what_is_no_infobatch_are_refused(ready: Any) -> None:
    engine, ib, _ = ready
    with pytest.raises(ValueError, match="must have the 600 samples of the run, got 599"):
        prepare(engine, ib, Points(SAMPLES - 1, 2))
    with pytest.raises(TypeError, match="must be an InfoBatch, got list"):
        prepare(engine, [], Points(SAMPLES, 2))  # type: ignore[arg-type]


def test_a_schedule_that_counts_steps_of_full_epochs_is_warned_of(tmp_path: Path) -> None:
    net, ib = network(), InfoBatch(SAMPLES, 4)
    counts = {"type": "WarmupDecayLR", "params": {"total_num_steps": 100, "warmup_num_steps": 5}}
    engine, *_ = deepspeed.initialize(
        model=net, optimizer=torch.optim.SGD(net.parameters(), 0.1),
        config={**settings(tmp_path), "scheduler": counts},
    )  # fmt: skip
    with pytest.warns(InfoBatchWarning, match="WarmupDecayLR counts on steps of full epochs"):
        prepare(engine, ib, Points(SAMPLES, 2))


def test_without_deepspeed_the_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without("deepspeed", monkeypatch)
    with pytest.raises(ImportError, match=r"needs DeepSpeed.*pip install infobatch\[deepspeed\]"):
        importlib.import_module("infobatch.deepspeed")


def test_the_example(tmp_path: Path) -> None:
    output = example("deepspeed_loop.py", tmp_path, "deepspeed")
    kept = [int(number) for number in re.findall(r"epoch \d: (\d+) of 4000", output)]
    assert len(kept) == 8
    assert kept[0] == kept[-1] == 4000 > min(kept)
    assert 10 < float(re.findall(r"(\S+)% of the samples saved", output)[0]) < 50
    assert float(re.findall(r"accuracy (\d\.\d+)", output)[0]) > 0.65
    assert "rate 0.0200 at the end" in output
