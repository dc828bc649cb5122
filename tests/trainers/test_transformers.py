"""The Trainer of Transformers with InfoBatch: its objective, lengths, learning rate, checkpoints, figures."""

import importlib
import re
from collections.abc import Iterator
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from language import (
    N,
    Notes,
    Sequences,
    accuracy,
    arguments,
    make,
    make_bert,
    make_llama,
    make_model,
    make_t5,
    parameters,
)
from processes import example, launch, without
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
)
from transformers.trainer_callback import TrainerState

from infobatch import InfoBatch
from infobatch.transformers import IDS, STATE_NAME, InfoBatchMixin, InfoBatchTrainer

EPOCHS, BATCH, MICRO = 8, 4, 2
WHOLE = ceil(ceil(N / BATCH) / MICRO)  # steps of an epoch that sees every sample
PRUNED = range(1, 7)  # of 8 epochs, with delta 0.875


def rates(trainer: Trainer) -> list[float]:
    return [log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log]


def losses(trainer: Trainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


class Order(torch.utils.data.Sampler[int]):
    """The ids of each epoch, one epoch after the other."""

    def __init__(self, epochs: list[list[int]]) -> None:
        self.epochs = iter(epochs)

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.epochs))


class Stock(Trainer):
    """The Trainer as it is, fed in a given order."""

    order: list[list[int]]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return Order(self.order)


# --- the objective


class Classes(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, kind: str) -> None:
        generator = torch.Generator().manual_seed(5)
        self.words = torch.randint(1, 13, (N, 6), generator=generator)
        self.labels = {
            "single_label_classification": self.words[:, 0] % 3,
            "regression": self.words[:, 0].float() / 13,
            "multi_label_classification": (self.words[:, :3] % 2).float(),
        }[kind]

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def classifier(kind: str) -> BertForSequenceClassification:
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    labels = 1 if kind == "regression" else 3
    config = BertConfig(vocab_size=13, num_labels=labels, problem_type=kind, **sizes, **rates)
    return BertForSequenceClassification(config)


@pytest.mark.parametrize(
    ("kind", "micro", "smoothing"),
    [
        ("tokens", 1, 0.0),
        ("tokens", 4, 0.0),  # 21 batches: the last step of an epoch has one micro-batch
        ("tokens", 2, 0.1),
        ("llama", 4, 0.0),  # whose items are counted behind the shift of labels, as GPT-2's are not
        ("masked", 2, 0.1),
        ("sequence_to_sequence", 1, 0.0),
        ("single_label_classification", 1, 0.0),
        ("single_label_classification", 2, 0.1),
        ("regression", 1, 0.0),
        ("multi_label_classification", 1, 0.0),
    ],
)
def test_where_nothing_is_left_out_it_is_the_stock_trainer(
    kind: str, micro: int, smoothing: float, tmp_path: Path
) -> None:
    of_words = {
        "tokens": make_model,
        "llama": make_llama,
        "masked": make_bert,
        "sequence_to_sequence": make_t5,
    }
    epochs = 2 if kind == "tokens" else 1
    model = of_words.get(kind, partial(classifier, kind))
    data: Any = Sequences(kind == "sequence_to_sequence") if kind in of_words else Classes(kind)
    settings = arguments(
        tmp_path,
        num_train_epochs=epochs,
        gradient_accumulation_steps=micro,
        label_smoothing_factor=smoothing,
        warmup_steps=5,
        lr_scheduler_type="cosine",
        optim="sgd",  # Adam makes steps of the rounding of gradients that are 0
        learning_rate=0.3,
    )
    ours = Notes(
        model(),
        settings,
        train_dataset=data,
        infobatch={"prune_ratio": 0},
    )
    ours.train()
    stock = Stock(model(), settings, train_dataset=data)
    stock.order = [ours.ids_of(epoch) for epoch in range(epochs)]
    assert sorted(stock.order[-1]) == list(range(N))
    stock.train()
    assert losses(ours) == pytest.approx(losses(stock), rel=1e-5)
    assert len(losses(ours)) == epochs * ceil(21 / micro)
    assert rates(ours) == pytest.approx(rates(stock), rel=1e-9)
    assert (parameters(ours) - parameters(stock)).abs().max() < 1e-6


# --- a run


class Bar(TrainerCallback):
    """A progress bar, as that of the Trainer."""

    class Shown:
        total = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.training_bar = self.Shown()
        self.totals: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        assert self.training_bar.total == state.max_steps
        self.totals.append(state.max_steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_save = args.save_strategy == "steps" and state.epoch == 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """A run of eight epochs with dropout, a checkpoint every 7 steps, and one at an end."""
    folder = tmp_path_factory.mktemp("run")
    trainer = make(folder, dropout=0.1, save_strategy="steps", save_steps=7, eval_strategy="epoch")
    trainer.bar = Bar()
    trainer.add_callback(trainer.bar)
    trainer.result = trainer.train()
    return trainer


def test_it_learns_and_saves(run: Notes) -> None:
    assert accuracy(run) > 0.95
    assert 0.12 < run.infobatch.statistics.saved < 0.35
    print(f"accuracy {accuracy(run):.3f}, {run.infobatch.statistics.saved:.1%} saved")


def test_each_epoch_delivers_its_plan_and_none_is_cut_or_skipped(run: Notes) -> None:
    kept = {}
    for log in run.state.log_history:
        if "loss" in log:
            kept[ceil(log["epoch"]) - 1] = log["infobatch/kept"]
    for epoch in range(EPOCHS):
        ids = run.ids_of(epoch)
        assert len(set(ids)) == len(ids) == kept[epoch]
        assert (len(ids) == N) == (epoch not in PRUNED)
    evaluated = [log["epoch"] for log in run.state.log_history if "eval_loss" in log]
    assert evaluated == [1, 2, 3, 4, 5, 6, 7, 8]


def test_steps_and_progress_bars_end_right(run: Notes) -> None:
    steps = [ceil(ceil(len(run.ids_of(epoch)) / BATCH) / MICRO) for epoch in range(EPOCHS)]
    assert run.state.global_step == run.state.max_steps == sum(steps) < EPOCHS * WHOLE
    assert len(run.bar.totals) == sum(steps)
    assert run.bar.totals == sorted(run.bar.totals, reverse=True)  # an upper bound, that comes down
    done = 0
    for epoch, count in enumerate(steps):
        assert run.bar.totals[done] == sum(steps[: epoch + 1]) + (EPOCHS - 1 - epoch) * WHOLE
        done += count
    samples = sum(len(run.ids_of(epoch)) for epoch in range(EPOCHS))
    metrics = run.result.metrics
    found = metrics["train_samples_per_second"] * metrics["train_runtime"]
    assert found == pytest.approx(samples, rel=0.01)


def test_the_learning_rate_ends_where_it_ends_without(run: Notes) -> None:
    found, peak, total = rates(run), 1e-2, EPOCHS * WHOLE
    assert found[0] == peak
    assert found[-1] == pytest.approx(peak / total)  # of the last of all steps
    assert found == sorted(found, reverse=True)
    begins = [
        next(i for i, log in enumerate(run.state.log_history) if log.get("epoch", 0) > epoch)
        for epoch in range(EPOCHS)
    ]
    for epoch, begin in enumerate(begins):
        rate = run.state.log_history[begin]["learning_rate"]
        assert rate == pytest.approx(peak * (1 - epoch / EPOCHS))


def test_logs_have_the_figures(run: Notes) -> None:
    logs = [log for log in run.state.log_history if "loss" in log]
    assert all("infobatch/kept" in log and "infobatch/saved" in log for log in logs)
    assert "infobatch/mean_score" not in logs[0]
    assert logs[0]["infobatch/saved"] == 0
    assert logs[-1]["infobatch/mean_score"] > 0
    end = run.state.log_history[-1]
    assert end["infobatch/saved"] == run.infobatch.statistics.saved > 0
    assert not any("infobatch/kept" in log for log in run.state.log_history if "eval_loss" in log)


def test_the_loss_is_the_weighted_sum_over_all_tokens_of_the_step(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=5, infobatch={"prune_ratio": 0.6})
    trainer.train()
    for epoch, _, weights, loss, expected in trainer.noted:
        assert loss == pytest.approx(expected, rel=1e-4)
        assert set(weights) <= ({1.0} if epoch in (0, 4) else {1.0, 2.5})
    assert any(2.5 in weights for _, _, weights, *_ in trainer.noted)


def test_scores_are_means_over_the_tokens_of_a_sequence(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=1, learning_rate=0.0)
    with pytest.warns(UserWarning, match="no epoch of this run leaves samples out"):
        trainer.train()
    run = trainer.infobatch
    run.set_epoch(1)
    data = Sequences()
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=data.words).logits[:, :-1]
    for id in (0, 1, 80):
        labels = data.labels[id, 1:]
        expected = torch.nn.functional.cross_entropy(logits[id], labels, ignore_index=-100)
        assert run.scores[id].item() == pytest.approx(expected.item(), rel=1e-4)


def test_evaluation_does_not_touch_the_run(tmp_path: Path) -> None:
    plain = make(tmp_path, num_train_epochs=4)
    plain.train()
    evaluated = make(tmp_path, num_train_epochs=4, eval_strategy="steps", eval_steps=3)
    evaluated.train()
    assert [note[:4] for note in evaluated.noted] == [note[:4] for note in plain.noted]
    assert torch.equal(evaluated.infobatch.scores, plain.infobatch.scores)
    stock = Trainer(plain.model, plain.args, eval_dataset=Sequences())
    assert plain.evaluate()["eval_loss"] == stock.evaluate()["eval_loss"]


# --- resume


@pytest.mark.parametrize("where", ["in a whole epoch", "in a pruned epoch", "in the last", "at an end"])
def test_resumed_is_never_stopped(where: str, run: Notes, tmp_path: Path) -> None:
    ends = [0]
    for epoch in range(EPOCHS):
        ends.append(ends[-1] + ceil(ceil(len(run.ids_of(epoch)) / BATCH) / MICRO))
    steps = {"in a whole epoch": 7, "in a pruned epoch": 28, "in the last": ends[-2] // 7 * 7 + 7}
    step = steps.get(where, ends[3])
    checkpoint = Path(run.args.output_dir) / f"checkpoint-{step}"
    assert (step in ends) == (where == "at an end")
    trainer = make(tmp_path, dropout=0.1, eval_strategy="epoch")
    trainer.train(resume_from_checkpoint=str(checkpoint))
    rest = run.noted[len(run.noted) - len(trainer.noted) :]
    assert len(rest) < len(run.noted)
    assert rates(trainer) == rates(run)
    assert [note[:4] for note in trainer.noted] == [note[:4] for note in rest]
    assert torch.equal(parameters(trainer), parameters(run))
    assert torch.equal(trainer.infobatch.scores, run.infobatch.scores)
    assert trainer.state.global_step == trainer.state.max_steps == run.state.global_step
    first = next(i for i, log in enumerate(trainer.state.log_history) if log["step"] > step)
    mine, other = trainer.state.log_history[first:], run.state.log_history[first:]
    assert [log["epoch"] for log in mine] == [log["epoch"] for log in other]


def test_the_state_of_the_run_is_there_before_a_checkpoint_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = TrainerState.save_to_json
    seen = []

    def save_to_json(state: TrainerState, path: str) -> None:
        seen.append(sorted(file.name for file in Path(path).parent.glob("infobatch*")))
        complete(state, path)

    monkeypatch.setattr(TrainerState, "save_to_json", save_to_json)
    make(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    assert seen == [[STATE_NAME]]
    InfoBatch(N, 1, seed=7).load(tmp_path / "checkpoint-2" / STATE_NAME)  # by anything that reads states


def test_a_scheduler_of_ones_own_is_left_as_it_is(tmp_path: Path) -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    own = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    trainer = InfoBatchTrainer(
        model, arguments(tmp_path, max_steps=3), train_dataset=Sequences(), optimizers=(optimizer, own)
    )
    trainer.train()
    assert trainer.lr_scheduler is own
    assert rates(trainer) == [1.0, 0.5, 0.25]


def test_a_second_training_is_a_run_of_its_own(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=3)
    trainer.train()
    first, steps, noted = trainer.infobatch, trainer.state.global_step, trainer.noted
    trainer.noted = []
    trainer.train()
    assert trainer.infobatch is not first
    assert trainer.noted[0][1] == noted[0][1]  # the same first plan
    assert rates(trainer)[0] == 1e-2
    assert abs(trainer.state.global_step - steps) < WHOLE


def test_a_checkpoint_without_the_run_is_refused(run: Notes, tmp_path: Path) -> None:
    stock = Stock(make_model(), arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=2))
    stock.train_dataset, stock.order = Sequences(), [list(range(N))]
    stock.train()
    with pytest.raises(FileNotFoundError, match=STATE_NAME):
        make(tmp_path).train(resume_from_checkpoint=True)


# --- lengths


def test_max_steps_is_respected(tmp_path: Path) -> None:
    trainer = make(tmp_path, max_steps=3 * WHOLE + 4)
    trainer.train()
    assert trainer.infobatch.num_epochs == 4
    shorter = [ceil(ceil(len(trainer.ids_of(epoch)) / BATCH) / MICRO) for epoch in range(3)]
    # Of the fourth epoch, which sees every sample, there are as many steps as were asked for.
    assert trainer.state.global_step == trainer.state.max_steps == sum(shorter) + 4
    assert trainer.state.global_step < 3 * WHOLE + 4
    assert rates(trainer)[-1] == pytest.approx(1e-2 / (3 * WHOLE + 4))


def test_a_part_of_an_epoch(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=3.5)
    trainer.train()
    shorter = [ceil(ceil(len(trainer.ids_of(epoch)) / BATCH) / MICRO) for epoch in range(3)]
    assert (
        trainer.state.global_step == trainer.state.max_steps == sum(shorter) + ceil(3.5 * WHOLE) - 3 * WHOLE
    )


def test_drop_last_and_workers(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=4, dataloader_drop_last=True, dataloader_num_workers=1)
    trainer.train()
    assert {len(ids) for _, ids, *_ in trainer.noted} == {BATCH}
    assert len(trainer.ids_of(0)) == N // BATCH * BATCH
    assert trainer.state.global_step == trainer.state.max_steps
    assert trainer.infobatch.statistics.dropped_total == 0
    assert trainer.infobatch.statistics.saved > 0


def test_a_batch_size_that_is_found(tmp_path: Path) -> None:
    class Small(Notes):
        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            if len(inputs[IDS]) > 4:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, *args)

    options = arguments(
        tmp_path, num_train_epochs=3, per_device_train_batch_size=5, auto_find_batch_size=True
    )
    trainer = Small(make_model(), options, train_dataset=Sequences())
    trainer.train()
    assert {len(ids) for _, ids, *_ in trainer.noted} <= {1, 2, 3, 4}
    assert sorted(trainer.ids_of(2)) == list(range(N))
    assert trainer.state.global_step == trainer.state.max_steps


# --- a loss of one's own


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    def per_sequence(outputs: Any, labels: Any) -> Any:
        each = torch.nn.functional.cross_entropy(
            outputs.logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100
        )
        return each.sum(1), labels[:, 1:].ne(-100).sum(1)

    def mean(outputs: Any, labels: Any) -> Any:
        sums, counts = per_sequence(outputs, labels)
        return sums / counts

    found = []
    for function in (None, per_sequence, mean):
        options = arguments(tmp_path, num_train_epochs=3)
        trainer = Notes(make_model(), options, train_dataset=Sequences(), infobatch_loss=function)
        trainer.train()
        found.append(trainer)
    assert losses(found[1]) == pytest.approx(losses(found[0]), rel=1e-5)
    assert losses(found[2])[0] != losses(found[0])[0]
    # A mean over sequences. (Of GPT-2 the Trainer counts the first word of 8 as an item, too.)
    assert losses(found[2])[0] == pytest.approx(losses(found[0])[0] * 8 / 7, rel=0.03)
    assert losses(found[2])[-1] < 0.8 * losses(found[2])[0]


def test_a_collator_that_packs_is_refused(tmp_path: Path) -> None:
    def pack(rows: list[Any]) -> dict[str, Any]:
        return {
            name: torch.cat([row[name] for row in rows[: 8 // 4]])[None] for name in ("input_ids", "labels")
        }

    model = make_model()
    model.config.n_positions = 16
    trainer = InfoBatchTrainer(
        model, arguments(tmp_path, per_device_train_batch_size=4), pack, train_dataset=Sequences()
    )
    model.transformer.wpe = torch.nn.Embedding(16, 32)
    with pytest.raises(ValueError, match="a batch of 4 samples must have a loss for each, got 1 rows"):
        trainer.train()


class Backwards(Sequences):
    """Sequences from right to left; nobody makes what a decoder reads."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.words[index], "labels": self.words[index].flip(0)}


def make_bart() -> BartForConditionalGeneration:
    torch.manual_seed(2)
    sizes = {"d_model": 16, "max_position_embeddings": 16, "vocab_size": 13, "dropout": 0.0}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 16}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return BartForConditionalGeneration(BartConfig(**sizes, **ends))


@pytest.mark.parametrize("model", [make_bart, make_t5])
def test_a_decoder_reads_what_the_model_would_make_of_the_labels(model: Any, tmp_path: Path) -> None:
    """Without labels Bart would make it of the words that the encoder reads, and say nothing."""
    settings = arguments(tmp_path, num_train_epochs=1, optim="sgd", gradient_accumulation_steps=1)
    ours = Notes(model(), settings, train_dataset=Backwards(), infobatch={"prune_ratio": 0})
    ours.train()
    stock = Stock(model(), settings, train_dataset=Backwards())
    stock.order = [ours.ids_of(0)]
    stock.train()
    assert losses(ours) == pytest.approx(losses(stock), rel=1e-5)
    assert (parameters(ours) - parameters(stock)).abs().max() < 1e-6


def test_a_model_with_another_loss_than_its_name_says_is_refused(tmp_path: Path) -> None:
    """As that of DebertaV2ForSequenceClassification with soft labels."""

    def other(module: Any, args: Any, outputs: Any) -> None:
        if outputs.get("loss") is not None:
            outputs["loss"] = outputs["loss"] * 1.5

    model = classifier("single_label_classification")
    model.register_forward_hook(other)
    data = Classes("single_label_classification")
    before = model.classifier.weight.clone()
    trainer = InfoBatchTrainer(model, arguments(tmp_path), train_dataset=data)
    with pytest.raises(
        ValueError, match=r"the loss of BertForSequenceClassification must be the mean of its samples' losses"
    ):
        trainer.train()
    assert torch.equal(model.classifier.weight, before)

    def each(outputs: Any, labels: Any) -> Any:
        return 1.5 * torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="none")

    settings = arguments(tmp_path, num_train_epochs=4)
    trainer = InfoBatchTrainer(model, settings, train_dataset=data, infobatch_loss=each)
    trainer.train()
    assert trainer.infobatch.statistics.saved > 0


def test_logits_of_another_length_than_the_labels_are_refused(tmp_path: Path) -> None:
    """As with the virtual tokens of a prompt."""

    def longer(module: Any, args: Any, outputs: Any) -> None:
        outputs["logits"] = torch.nn.functional.pad(outputs["logits"], (0, 0, 2, 0))

    model = make_llama()
    model.register_forward_hook(longer)
    trainer = InfoBatchTrainer(model, arguments(tmp_path), train_dataset=Sequences())
    with pytest.raises(
        ValueError, match=r"got logits of \[4, 10, 13\] for labels of \[4, 8\].*infobatch_loss"
    ):
        trainer.train()


def own_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    labels = inputs.pop("labels")
    logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))


@pytest.mark.parametrize("kind", ["before the mixin", "behind it", "a model that takes no ids"])
def test_a_compute_loss_of_ones_own_is_refused_before_a_step(kind: str, tmp_path: Path) -> None:
    before = type("Before", (InfoBatchTrainer,), {"compute_loss": own_loss})
    behind = type("Behind", (InfoBatchMixin, type("Own", (Trainer,), {"compute_loss": own_loss})), {})
    model: Any = classifier("single_label_classification") if "takes" in kind else make_model()
    data: Any = Classes("single_label_classification") if "takes" in kind else Sequences()
    if "takes" in kind:
        forward = model.forward
        model.forward = lambda input_ids, labels=None: forward(input_ids, labels=labels)
    kept = [value.clone() for value in model.parameters()]
    trainer = (behind if kind == "behind it" else before)(
        model, arguments(tmp_path, remove_unused_columns=False), train_dataset=data
    )
    if "takes" not in kind:
        trainer.data_collator = lambda rows: {
            name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")
        }
    with pytest.raises(ValueError, match=r"compute_loss must call that of InfoBatchTrainer.*infobatch_loss"):
        trainer.train()
    assert all(map(torch.equal, kept, model.parameters()))


def test_a_compute_loss_that_adds_to_the_trainers_own_works(tmp_path: Path) -> None:
    class Adds(InfoBatchTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            return loss + 1e-3 * sum(value.square().sum() for value in model.parameters())

    trainer = Adds(make_model(), arguments(tmp_path, num_train_epochs=4), train_dataset=Sequences())
    trainer.train()
    assert trainer.infobatch.statistics.saved > 0


# --- what is refused


def test_a_sampler_or_a_loader_of_ones_own_is_refused(tmp_path: Path) -> None:
    class Sampled(InfoBatchTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.WeightedRandomSampler(torch.ones(N), N)

    class Loaded(InfoBatchTrainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(Sequences(), 4, shuffle=True)

    with pytest.raises(
        ValueError, match="_get_train_sampler must be that of the Trainer, got one of Sampled"
    ):
        Sampled(make_model(), arguments(tmp_path), train_dataset=Sequences())
    with pytest.raises(ValueError, match=r"get_train_dataloader must return what.*another loader by Loaded"):
        Loaded(make_model(), arguments(tmp_path), train_dataset=Sequences()).train()


def test_a_loss_type_of_trl_is_refused(tmp_path: Path) -> None:
    settings = arguments(tmp_path)
    settings.loss_type = "dft"
    with pytest.raises(ValueError, match="loss_type must be 'nll', got 'dft'"):
        InfoBatchTrainer(make_model(), settings, train_dataset=Sequences())


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "must be 'random', got 'group_by_length'"),
        ({"train_sampling_strategy": "sequential"}, "must be 'random', got 'sequential'"),
        ({"ignore_data_skip": True}, "ignore_data_skip must be False"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches must be False"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches must be False"),
        ({"train_dataset": Stream(), "max_steps": 4}, "an iterable .streaming. data set has no sample ids"),
        ({"train_dataset": InfoBatch(N, 8)}, "must be the data set itself, got an InfoBatch"),
        ({"compute_loss_func": lambda *_, **__: None}, "give infobatch_loss"),
        ({"model": torch.nn.Linear(1, 1)}, "the loss of Linear must be known for each sample"),
        ({"infobatch": False}, "to train on every sample, use Trainer"),
        ({"infobatch": {"num_epochs": 3}}, "must leave num_epochs to the arguments"),
        ({"infobatch_loss": print, "label_smoothing_factor": 0.1}, "smooth in that function"),
    ],
)
def test_what_cannot_work_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    of_trainer = ("train_dataset", "compute_loss_func", "model", "infobatch", "infobatch_loss")
    given = {"model": make_model(), "train_dataset": Sequences()}
    given |= {name: value for name, value in change.items() if name in of_trainer}
    options = {name: value for name, value in change.items() if name not in of_trainer}
    with pytest.raises((ValueError, TypeError), match=message):
        InfoBatchTrainer(args=arguments(tmp_path, **options), **given)


def test_a_trainer_that_is_none_is_refused() -> None:
    class Nothing(InfoBatchMixin):
        pass

    with pytest.raises(RuntimeError, match=r"class MyTrainer\(InfoBatchMixin, Trainer\)"):
        Nothing()


def test_without_transformers_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without("transformers", monkeypatch)
    needs = r"^infobatch\.transformers: needs Transformers.*infobatch\[transformers\]"
    with pytest.raises(ImportError, match=needs):
        importlib.import_module("infobatch.transformers")


# --- ranks and the example


def test_two_ranks_share_a_run_and_resume_it(tmp_path: Path) -> None:
    first, second = launch("transformers_ranks.py", 2, tmp_path)
    assert first["parameters"] == second["parameters"]
    assert first["scores"] == second["scores"]
    assert first["accuracy"] > 0.9
    assert 0.1 < first["saved"] < 0.4
    assert first["steps"] == first["max_steps"] == second["steps"]
    for epoch in range(6):
        shares = [[ids for number, ids, *_ in found["noted"] if number == epoch] for found in (first, second)]
        assert len(shares[0]) == len(shares[1])
        delivered = [id for ids in shares[0] + shares[1] for id in ids]
        kept = first["kept"][epoch]
        assert len(set(delivered)) == kept
        assert kept <= len(delivered) <= kept + 1  # at most W - 1 once more
        assert (kept == N) == (epoch in (0, 5))
    for found in (first, second):  # the sum over both ranks is what DDP averages
        for *_, loss, expected in found["noted"]:
            assert loss == pytest.approx(expected, rel=1e-4)
        for name in ("noted", "parameters", "scores", "steps", "rates"):
            whole, resumed = found[name], found["resumed"][name]
            assert resumed == (whole[-len(resumed) :] if name == "noted" else whole)
        rest = found["resumed"]["noted"]
        assert len(rest) < len(found["noted"])
        epoch = rest[0][0]  # which the checkpoint was in the midst of
        counts = [sum(note[0] == epoch for note in notes) for notes in (rest, found["noted"])]
        assert 0 < counts[0] < counts[1]
        # A mean over sequences is that of this rank: DDP has the mean over ranks.
        assert found["mean_losses"] == pytest.approx(found["expected_means"], rel=1e-4)


def test_the_example(tmp_path: Path) -> None:
    output = example("transformers_trainer.py", tmp_path)
    kept = [int(count) for count in re.findall(r"'infobatch/kept': '?(\d+)", output)]
    assert kept[0] == 600
    assert min(kept) < 500
    found = re.search(r"accuracy (\S+) with (\S+)% of the samples saved, in (\d+) of (\d+) steps", output)
    assert float(found[1]) > 0.9
    assert float(found[2]) > 10
    assert int(found[3]) < int(found[4])
