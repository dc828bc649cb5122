"""The Trainer of Hugging Face Transformers: a causal language model, with gradient accumulation.

    python examples/python/trainers/transformers_trainer.py

One learns: `InfoBatchTrainer` in place of `Trainer`, and nothing else; the score of a sequence is the mean
over its tokens; the learning rate, the number of steps and the progress bar follow the shorter epochs.
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from infobatch.transformers import InfoBatchTrainer

SIZE, LENGTH, WORDS, EPOCHS = 600, 8, 16, 8
torch.manual_seed(1)
torch.set_num_threads(1)
first = torch.randint(0, WORDS, (SIZE, 1))
words = (first + torch.arange(LENGTH) * (1 + first % 3)) % WORDS  # the first word says how it goes on
noise = torch.rand(SIZE) < 0.1  # these stay hard
words[noise] = torch.randint(0, WORDS, (int(noise.sum()), LENGTH))
train_dataset = [{"input_ids": row, "labels": row} for row in words]

model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
)
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
    )
    trainer = InfoBatchTrainer(model, args, train_dataset=train_dataset, infobatch={"prune_ratio": 0.5})
    trainer.train()

with torch.no_grad():
    found = model.eval()(input_ids=words[~noise]).logits[:, 1:-1].argmax(-1)
accuracy = (found == words[~noise, 2:]).float().mean()
saved, steps = trainer.infobatch.statistics.saved, trainer.state.global_step
whole = EPOCHS * -(-SIZE // 32)
print(f"accuracy {accuracy:.3f} with {saved:.1%} of the samples saved, in {steps} of {whole} steps")
