"""A language of made sequences, a small model of it, and a Trainer that notes what it does."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from infobatch.transformers import IDS, InfoBatchMixin

N, LENGTH, WORDS = 83, 8, 13
IGNORED = -100


class Sequences(torch.utils.data.Dataset[dict[str, Any]]):
    """Each word says which one comes next; the last sequences are noise. Some labels are left out,
    as padding is."""

    def __init__(self, for_decoder: bool = False) -> None:
        self.for_decoder = for_decoder
        generator = torch.Generator().manual_seed(5)
        first = torch.arange(N)[:, None] % WORDS
        self.words = (first + 3 * torch.arange(LENGTH)) % WORDS
        self.words[72:] = torch.randint(0, WORDS, (N - 72, LENGTH), generator=generator)
        self.labels = self.words.clone()
        self.labels[1::3, 6:] = IGNORED

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        # "topic" is no argument of the model, and so it is left out by the Trainer.
        found = {"input_ids": self.words[index], "labels": self.labels[index], "topic": index % 2}
        if self.for_decoder:  # as DataCollatorForSeq2Seq does
            found["decoder_input_ids"] = torch.nn.functional.pad(self.words[index, :-1], (1, 0))
        return found


def make_model(dropout: float = 0.0) -> GPT2LMHeadModel:
    torch.manual_seed(2)
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": LENGTH, "vocab_size": WORDS}
    return GPT2LMHeadModel(GPT2Config(**sizes, **rates, **ends))


def make_llama() -> LlamaForCausalLM:
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, bos_token_id=0, eos_token_id=0, **sizes))


def make_bert() -> BertForMaskedLM:
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(vocab_size=WORDS, **sizes, **rates))


def make_t5() -> T5ForConditionalGeneration:
    torch.manual_seed(2)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    return T5ForConditionalGeneration(T5Config(vocab_size=WORDS, decoder_start_token_id=0, **sizes))


def arguments(folder: Path | str, **options: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "num_train_epochs": 8,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": N,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
        **options,
    }
    return TrainingArguments(str(folder), **settings)


class Notes(InfoBatchMixin, Trainer):
    """Notes, of each micro-batch: epoch, ids, weights, loss, and what the loss should be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noted: list[tuple[int, list[int], list[float], float, float]] = []
        super().__init__(*args, **kwargs)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if IDS not in inputs:
            return super().compute_loss(model, inputs, *args, **kwargs)
        ids, labels, words = inputs[IDS], inputs["labels"], inputs["input_ids"]
        epoch = self.infobatch.statistics.epoch
        weights = self.infobatch.get_weights(ids)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        expected = float("nan")
        causal = labels.shape == words.shape and "decoder_input_ids" not in inputs
        if causal and kwargs.get("num_items_in_batch") is not None:
            with torch.no_grad():
                logits = self.model(input_ids=words).logits[:, :-1]
            each = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=IGNORED
            )
            items = kwargs["num_items_in_batch"]
            expected = ((weights * each.sum(1)).sum() / items * self.args.world_size).item()
        self.noted.append((epoch, ids.tolist(), weights.tolist(), loss.item(), expected))
        return loss

    def ids_of(self, epoch: int) -> list[int]:
        return [id for number, ids, *_ in self.noted if number == epoch for id in ids]


def make(folder: Path | str, dropout: float = 0.0, infobatch: Any = True, **options: Any) -> Notes:
    data = Sequences()
    return Notes(
        make_model(dropout),
        arguments(folder, **options),
        train_dataset=data,
        eval_dataset=data,
        infobatch=infobatch,
    )


def parameters(trainer: Trainer) -> torch.Tensor:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def accuracy(trainer: Trainer) -> float:
    """Share of the words that follow from those before, of the sequences that are no noise."""
    data = Sequences()
    with torch.no_grad():
        found = trainer.model.eval()(input_ids=data.words[:72]).logits[:, :-1].argmax(-1)
    return (found == data.words[:72, 1:]).float().mean().item()
