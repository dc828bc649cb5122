"""DeepSpeed: the engine's loop with ZeRO and accumulation, on as many processes as are started.

    python examples/python/trainers/deepspeed_loop.py
    torchrun --standalone --nproc-per-node 2 examples/python/trainers/deepspeed_loop.py

One learns: the InfoBatch is made behind `init_distributed`; `prepare` makes line 2, ends each epoch with a
step, and saves the run in DeepSpeed's checkpoints; the learning rate follows the run's progress.
"""

import os
import tempfile

import deepspeed
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from infobatch import InfoBatch, progress_lr
from infobatch.deepspeed import prepare

EPOCHS = 8
alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
for name, value in alone.items():  # where no launcher says it
    os.environ.setdefault(name, str(value))
deepspeed.init_distributed("gloo", verbose=False)
torch.manual_seed(1)
labels = torch.randint(0, 4, (4000,))
inputs = torch.randn(4000, 8) + 1.5 * torch.eye(4, 8)[labels]
dataset = TensorDataset(inputs, labels)
net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))

ib = InfoBatch(dataset, EPOCHS, seed=1)
engine, *_ = deepspeed.initialize(
    model=net,
    optimizer=torch.optim.SGD(net.parameters(), lr=0.2),
    lr_scheduler=lambda optimizer: progress_lr(optimizer, ib, lambda progress: 1 - 0.9 * progress),
    config={
        "train_micro_batch_size_per_gpu": 32,
        "gradient_accumulation_steps": 2,
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
    },
)
loader = prepare(engine, ib, dataset)
with tempfile.TemporaryDirectory() as folder:
    for epoch in range(ib.epoch, EPOCHS):
        ib.set_epoch(epoch)
        print(f"epoch {epoch}: {len(ib.plan)} of {len(dataset)}, {len(loader)} batches")
        for x, target in loader:
            loss = ib.update(cross_entropy(engine(x), target, reduction="none"))
            engine.backward(loss)
            engine.step()
        loader.save_checkpoint(folder)
accuracy, saved = (net(inputs).argmax(1) == labels).float().mean(), ib.statistics.saved
rate = engine.get_lr()[0]
print(f"accuracy {accuracy:.2f}, {saved:.1%} of the samples saved, rate {rate:.4f} at the end")
