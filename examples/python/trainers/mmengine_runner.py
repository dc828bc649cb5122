"""MMEngine: a sampler and a hook by name, and the third line in the model's loss.

One learns: a config needs two entries; the model finds the run as `self.infobatch`; schedules, the log's
lengths, checkpoints and `resume=True` follow the run. In a config file, as those of OpenMMLab and XTuner,
`custom_imports = dict(imports=["infobatch.mmengine"])` makes the names known.
"""

import tempfile

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import infobatch.mmengine  # noqa: F401 - registers InfoBatchSampler and InfoBatchHook

EPOCHS = 8
torch.manual_seed(1)
labels = torch.randint(0, 4, (4000,))
inputs = torch.randn(4000, 8) + 1.5 * torch.eye(4, 8)[labels]


class Classifier(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))

    def forward(self, x, target, mode):
        losses = cross_entropy(self.net(x), target, reduction="none")
        return {"loss": self.infobatch.update(losses)}


model = Classifier()
with tempfile.TemporaryDirectory() as folder:
    runner = Runner(
        model=model,
        work_dir=folder,
        train_dataloader={
            "dataset": TensorDataset(inputs, labels),
            "batch_size": 64,
            "num_workers": 0,
            "collate_fn": {"type": "default_collate"},
            "sampler": {"type": "InfoBatchSampler", "num_epochs": EPOCHS},
        },
        train_cfg={"by_epoch": True, "max_epochs": EPOCHS},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.2}},
        param_scheduler={"type": "CosineAnnealingLR", "eta_min": 0.02, "by_epoch": False},
        custom_hooks=[{"type": "InfoBatchHook"}],
        randomness={"seed": 1},
    )
    runner.train()  # logs behind each epoch how many samples it kept
rate = runner.optim_wrapper.get_lr()["lr"][0]
accuracy = (model.net(inputs).argmax(1) == labels).float().mean()
saved = model.infobatch.statistics.saved
print(f"accuracy {accuracy:.2f}, {saved:.1%} of the samples saved, rate {rate:.4f} at the end")
