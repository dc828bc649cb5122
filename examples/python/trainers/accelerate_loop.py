"""A loop of Accelerate: one process, or several, with gradient accumulation and a tracker.

    python examples/python/trainers/accelerate_loop.py
    torchrun --standalone --nproc-per-node 2 examples/python/trainers/accelerate_loop.py

One learns: `split="global"` leaves the split to Accelerate, so batches come with ids; `prepare` makes line 2
and registers the run for `save_state`; the learning rate follows the run's progress.
"""

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from infobatch import InfoBatch, progress_lr
from infobatch.accelerate import figures, prepare

EPOCHS, SIZE = 8, 2000


class Printed(GeneralTracker):
    """What a tracker such as TensorBoard would show."""

    name, requires_logging_directory, tracker = "printed", False, None

    def log(self, values: dict, step: int | None = None, **options: object) -> None:
        print(step, {name: round(value, 3) for name, value in values.items()})


torch.set_num_threads(1)
torch.manual_seed(1)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, log_with=[Printed()])
accelerator.init_trackers("example")
labels = torch.randint(0, 4, (SIZE,))
inputs = torch.randn(SIZE, 8) + 3 * torch.eye(4, 8)[labels]
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

ib = InfoBatch(SIZE, EPOCHS, seed=1, split="global")
loader = prepare(accelerator, ib, TensorDataset(inputs, labels), batch_size=32)
schedule = progress_lr(optimizer, ib, lambda progress: 1 - progress)
model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

for epoch in range(EPOCHS):
    ib.set_epoch(epoch)
    batches = len(loader)  # of this epoch
    for ids, (x, target) in loader:
        with accelerator.accumulate(model):
            loss = ib.update(cross_entropy(model(x), target, reduction="none"), ids)
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    accelerator.log({"batches": batches, **figures(ib)}, step=epoch)

accuracy = (model(inputs).argmax(1) == labels).float().mean()
rate = schedule.get_last_lr()[0]
accelerator.print(f"accuracy {accuracy:.3f} with {ib.statistics.saved:.1%} saved, rate {rate:.4f} at the end")
