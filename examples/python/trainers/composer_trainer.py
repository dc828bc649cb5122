"""Composer: an algorithm, a sampler, and the third line in the model's loss.

One learns: the loader has the data set itself and the sampler of the run; Composer's own schedules end
where they should within `FullRun`; checkpoints (save_folder, load_path) have the run with them. On several
ranks the InfoBatch is made behind `composer.utils.dist.initialize_dist`, and nothing else changes.
"""

import torch
from composer import ComposerModel, Trainer
from composer.loggers import InMemoryLogger
from composer.optim import CosineAnnealingScheduler
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from infobatch import InfoBatch
from infobatch.composer import FullRun, InfoBatchAlgorithm

EPOCHS = 8


def points(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return TensorDataset(torch.randn(count, 8, generator=generator) + 1.5 * torch.eye(4, 8)[labels], labels)


class Classifier(ComposerModel):
    def __init__(self, ib: InfoBatch) -> None:
        super().__init__()
        self.ib = ib
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))

    def forward(self, batch):
        return self.net(batch[0])

    def loss(self, outputs, batch):
        return self.ib.update(cross_entropy(outputs, batch[1], reduction="none"))


torch.manual_seed(1)
dataset, (inputs, labels) = points(4000, 1), points(1000, 2).tensors
ib = InfoBatch(dataset, EPOCHS, seed=1)
model, logger = Classifier(ib), InMemoryLogger()
trainer = Trainer(
    model=model, train_dataloader=DataLoader(dataset, batch_size=64, sampler=ib.sampler), device="cpu",
    max_duration=f"{EPOCHS}ep", optimizers=torch.optim.SGD(model.parameters(), lr=0.2),
    algorithms=[InfoBatchAlgorithm(ib)], schedulers=FullRun(CosineAnnealingScheduler(alpha_f=0.1), ib),
    loggers=[logger], progress_bar=False,
)  # fmt: skip
trainer.fit()
for epoch, (_, kept) in enumerate(logger.data["infobatch/kept"]):
    print(f"epoch {epoch}: {kept:.0f} of {len(dataset)}")
accuracy = (model.net(inputs).argmax(1) == labels).float().mean()
rate = trainer.state.optimizers[0].param_groups[0]["lr"]
print(f"accuracy {accuracy:.2f}, {ib.statistics.saved:.1%} of the samples saved, rate {rate:.4f} at the end")
