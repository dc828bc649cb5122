"""The Trainer with what is often used beside it, where that is installed: datasets, PEFT, TRL."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from language import WORDS, arguments, make_llama, parameters
from processes import example

from infobatch.transformers import InfoBatchMixin, InfoBatchTrainer

datasets = pytest.importorskip("datasets", reason="datasets is not installed")

N = 60


def rows() -> Any:
    """Sequences of several lengths, with a column that no model takes."""
    lengths = [3 + i % 6 for i in range(N)]
    words = [[(i + 3 * t) % (WORDS - 1) + 1 for t in range(length)] for i, length in enumerate(lengths)]
    return datasets.Dataset.from_dict({"input_ids": words, "topic": [str(i) for i in range(N)]})


def pad(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    assert all(set(row) == {"input_ids"} for row in batch)
    each = [torch.as_tensor(row["input_ids"]) for row in batch]
    padded = partial(torch.nn.utils.rnn.pad_sequence, each, True)
    return {"input_ids": padded(0), "attention_mask": padded(0).ne(0).long(), "labels": padded(-100)}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_with_padding(workers: int, tmp_path: Path) -> None:
    found = []
    for kind in (None, "torch", "transform"):
        data = rows()
        if kind == "torch":
            data.set_format("torch")
        if kind == "transform":
            data.set_transform(lambda batch: {"input_ids": batch["input_ids"]})
        settings = arguments(
            tmp_path,
            num_train_epochs=5,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            remove_unused_columns=kind != "transform",
        )
        trainer = InfoBatchTrainer(make_llama(), settings, pad, train_dataset=data)
        trainer.train()
        assert trainer.infobatch.statistics.saved > 0.05
        assert trainer.state.global_step == trainer.state.max_steps
        found.append(parameters(trainer))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_stream_is_refused(tmp_path: Path) -> None:
    settings = arguments(tmp_path, max_steps=4)
    with pytest.raises(TypeError, match=r"an iterable .streaming. data set has no sample ids"):
        InfoBatchTrainer(make_llama(), settings, pad, train_dataset=rows().to_iterable_dataset())


def test_lora_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    found = []
    for folder in (None, "checkpoint-25"):
        model = peft.get_peft_model(make_llama(), peft.LoraConfig(r=4, task_type="CAUSAL_LM"))
        settings = arguments(tmp_path, num_train_epochs=5, save_strategy="steps", save_steps=25)
        trainer = InfoBatchTrainer(model, settings, pad, train_dataset=rows().remove_columns("topic"))
        trainer.train(resume_from_checkpoint=None if folder is None else str(tmp_path / folder))
        assert trainer.infobatch.statistics.saved > 0.05
        found.append((parameters(trainer), trainer.infobatch.scores.clone(), trainer.state.global_step))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


def test_a_prompt_that_is_tuned_is_refused(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(make_llama(), settings)
    data = rows().remove_columns("topic")
    with pytest.raises(ValueError, match="logits must have a place for each label"):
        InfoBatchTrainer(model, arguments(tmp_path), pad, train_dataset=data).train()


def make_tuner(folder: Path, plain: bool = False, **options: Any) -> Any:
    """TRL's SFTTrainer, with or without InfoBatch."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    class Tuner(InfoBatchMixin, trl.SFTTrainer):
        pass

    words = Tokenizer(models.WordLevel({str(word): word for word in range(WORDS)}, unk_token="0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="12", unk_token="0")
    given = {"num_train_epochs": 5, "save_strategy": "no", **options}
    settings = trl.SFTConfig(
        str(folder), per_device_train_batch_size=4, learning_rate=1e-2, bf16=False, use_cpu=True,
        report_to="none", disable_tqdm=True, max_length=8, **given,
    )  # fmt: skip
    model, data = make_llama(), rows().remove_columns("topic")
    model.config.pad_token_id = 0
    made = trl.SFTTrainer if plain else Tuner
    return made(model, args=settings, train_dataset=data, eval_dataset=data, processing_class=tokenizer)


def test_supervised_fine_tuning_evaluates_each_epoch_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    how = {"eval_strategy": "epoch", "logging_steps": 1, "save_strategy": "steps", "save_steps": 7}
    whole = make_tuner(tmp_path, **how)
    whole.train()
    log = whole.state.log_history
    evaluations = [row for row in log if "eval_loss" in row]
    assert len(evaluations) == 5
    assert evaluations[-1]["eval_mean_token_accuracy"] > 0.8
    assert evaluations[-1]["eval_loss"] < 0.5 * evaluations[0]["eval_loss"]
    assert whole.infobatch.statistics.saved > 0.05
    kept = [row["infobatch/kept"] for row in log if "infobatch/kept" in row]
    assert min(kept) < N == kept[-1]
    # Fewer steps, and the learning rate ends where it does in as many as there would be.
    plain = make_tuner(tmp_path / "plain", plain=True, logging_steps=1)
    plain.train()
    assert whole.state.global_step < plain.state.global_step
    rates = [
        [row["learning_rate"] for row in run.state.log_history if "learning_rate" in row]
        for run in (whole, plain)
    ]
    assert rates[0][-1] == pytest.approx(rates[1][-1])
    middle = whole.state.global_step // 14 * 7
    again = make_tuner(tmp_path, **how)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{middle}"))
    assert torch.equal(parameters(whole), parameters(again))
    assert torch.equal(whole.infobatch.scores, again.infobatch.scores)
    assert whole.state.global_step == again.state.global_step


def test_a_trainer_before_the_mixin_is_refused() -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    with pytest.raises(TypeError, match=r"must come before the trainer, got it behind SFTTrainer"):

        class Wrong(trl.SFTTrainer, InfoBatchMixin):
            pass

    class Right(InfoBatchTrainer):
        pass

    class Further(Right):
        pass


def test_the_example_of_supervised_fine_tuning(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    output = example("trl_sft.py", tmp_path, "trl")
    first, last, epochs, saved, steps, of = map(
        float, re.findall(r"evaluation (\S+) to (\S+) in (\d+) .* (\S+)% .* (\d+) of (\d+) steps", output)[0]
    )
    assert last < 0.1 * first
    assert epochs == 8
    assert 10 < saved < 50
    assert steps < 0.9 * of


@pytest.mark.parametrize("packing", [None, "wrapped", "bfd"])
def test_the_trainer_for_supervised_fine_tuning(packing: str | None, tmp_path: Path) -> None:
    packed = {} if packing is None else {"packing": True, "packing_strategy": packing}
    trainer = make_tuner(tmp_path, **packed)
    if packing == "bfd":
        with pytest.raises(ValueError, match="a collator that packs samples into one row"):
            trainer.train()
        return
    trainer.train()
    assert (len(trainer.train_dataset) < N) == (packing is not None)
    assert trainer.infobatch.statistics.saved > 0.05
    assert trainer.state.global_step == trainer.state.max_steps
