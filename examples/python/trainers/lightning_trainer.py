"""Lightning: a callback, a sampler, and the third line in the training step.

One learns: the InfoBatch is made in `setup`, where the ranks know each other; validation, progress bar and
checkpoints follow epochs of changing length; `fit(ckpt_path=...)` goes on with the run. With more devices
nothing changes: Trainer(devices=2, strategy="ddp").
"""

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch, progress_lr
from infobatch.lightning import InfoBatchCallback


def points(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return TensorDataset(torch.randn(count, 8, generator=generator) + 1.5 * torch.eye(4, 8)[labels], labels)


class Points(LightningDataModule):
    def setup(self, stage: str) -> None:
        self.ib = InfoBatch(points(4000, 1), self.trainer.max_epochs, seed=1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.ib, batch_size=64, sampler=self.ib.sampler)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(1000, 2), batch_size=500)


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))

    def training_step(self, batch, index):
        inputs, labels = batch
        return self.trainer.datamodule.ib.update(cross_entropy(self.net(inputs), labels, reduction="none"))

    def validation_step(self, batch, index):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2)
        schedule = progress_lr(optimizer, self.trainer.datamodule.ib, lambda progress: 1 - 0.9 * progress)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


torch.manual_seed(1)
data = Points()
trainer = Trainer(max_epochs=8, accelerator="cpu", devices=1, callbacks=[InfoBatchCallback(lambda: data.ib)],
                  logger=False, enable_checkpointing=False, enable_progress_bar=False)  # fmt: skip
trainer.fit(Classifier(), data)
print(data.ib.statistics)
print(f"accuracy {trainer.callback_metrics['accuracy']:.2f}, {trainer.global_step} steps instead of 504")
