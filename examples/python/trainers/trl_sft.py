"""TRL's SFTTrainer: supervised fine-tuning of a language model, with an evaluation each epoch.

    python examples/python/trainers/trl_sft.py

One learns: `InfoBatchMixin` stands before the trainer, and nothing else changes; the score of a sequence is
the mean over its tokens, and evaluation sees every sequence.
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from infobatch.transformers import InfoBatchMixin

SIZE, LENGTH, WORDS, EPOCHS = 600, 8, 16, 8


class Tuner(InfoBatchMixin, SFTTrainer):
    pass


def sequences(size: int) -> Dataset:
    first = torch.randint(0, WORDS, (size, 1))
    words = (first + torch.arange(LENGTH) * (1 + first % 3)) % WORDS  # the first word says how it goes on
    return Dataset.from_dict({"input_ids": words.tolist()})


torch.manual_seed(1)
torch.set_num_threads(1)
vocabulary = Tokenizer(models.WordLevel({str(word): word for word in range(WORDS)}, unk_token="0"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="0", eos_token="15", unk_token="0")
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=32, n_layer=1, n_head=2, pad_token_id=0)
)
with tempfile.TemporaryDirectory() as folder:
    args = SFTConfig(
        folder, num_train_epochs=EPOCHS, per_device_train_batch_size=16, learning_rate=1e-2,
        max_length=LENGTH, logging_strategy="epoch", eval_strategy="epoch", save_strategy="no",
        report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, seed=1,
    )  # fmt: skip
    trainer = Tuner(
        model, args, train_dataset=sequences(SIZE), eval_dataset=sequences(100), processing_class=tokenizer
    )
    trainer.train()

evaluations = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
saved, steps = trainer.infobatch.statistics.saved, trainer.state.global_step
print(
    f"evaluation {evaluations[0]:.3f} to {evaluations[-1]:.3f} in {len(evaluations)} epochs, with "
    f"{saved:.1%} of the samples saved, in {steps} of {EPOCHS * -(-SIZE // 16)} steps"
)
