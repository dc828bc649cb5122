"""One of the processes of a run of the Trainer: trains, goes on from a checkpoint in a second Trainer."""

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from language import Notes, accuracy, make, parameters
from torch.nn.functional import cross_entropy

EPOCHS = 6


def train(folder: Path, checkpoint: str | None = None) -> tuple[Notes, dict[str, Any]]:
    trainer = make(
        folder, num_train_epochs=EPOCHS, save_strategy="steps", save_steps=4, ddp_backend="gloo", dropout=0.0
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    trainer.infobatch.set_epoch(EPOCHS)  # the losses of the last epoch enter the scores
    return trainer, {
        "noted": trainer.noted,
        "parameters": parameters(trainer).tolist(),
        "scores": trainer.infobatch.scores.tolist(),
        "steps": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        "rates": [log["learning_rate"] for log in logs],
        "kept": {int(log["epoch"] - 1e-9): log["infobatch/kept"] for log in logs},
        "saved": logs[-1]["infobatch/saved"],
    }


def train_on_means(folder: Path) -> tuple[list[float], list[float]]:
    """Losses of an epoch with a loss of its own, and the means of what that returned."""
    means: list[float] = []

    def per_sequence(outputs: Any, labels: Any) -> torch.Tensor:
        each = cross_entropy(outputs.logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
        found = each.mean(1)
        means.append(found.mean().item())
        return found

    trainer = make(folder, num_train_epochs=1, ddp_backend="gloo", gradient_accumulation_steps=1)
    trainer._infobatch_loss = per_sequence
    trainer.train()
    return [loss for *_, loss, _ in trainer.noted], means


if __name__ == "__main__":
    target = Path(sys.argv[1])
    trainer, found = train(target.parent / "checkpoints")
    found["accuracy"] = accuracy(trainer)
    _, found["resumed"] = train(target.parent / "more", str(target.parent / "checkpoints" / "checkpoint-8"))
    found["mean_losses"], found["expected_means"] = train_on_means(target.parent / "means")
    target.write_bytes(pickle.dumps(found))
