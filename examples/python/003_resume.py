"""Save in the middle of an epoch, load into a new object, go on as if nothing had happened.

One learns: the state goes into the checkpoint beside model and optimizer, at any step; the next iteration
delivers the rest of the interrupted epoch; ids, weights and losses are equal to the bit.
"""

import torch
from torch.utils.data import DataLoader, TensorDataset

from infobatch import Indexed, InfoBatch

EPOCHS = 6
torch.manual_seed(1)
x = torch.randn(1000, 3)
y = x.sum(1) + torch.randn(1000).pow(3)


class Training:
    def __init__(self, checkpoint: str | None = None) -> None:
        torch.manual_seed(2)
        self.model = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.ib = InfoBatch(TensorDataset(x, y), EPOCHS, seed=7)
        self.loader = DataLoader(Indexed(self.ib), batch_sampler=self.ib.batch_sampler(64))
        if checkpoint is not None:
            for part, state in torch.load(checkpoint, weights_only=True).items():
                report = getattr(self, part).load_state_dict(state)
            print(f"goes on in epoch {report.epoch}, {report.position} samples of it are done")

    def run(self, steps: int, seen: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """At most so many steps; what they showed is appended to `seen`."""
        while self.ib.epoch < EPOCHS:
            for ids, (inputs, targets) in self.loader:
                losses = (self.model(inputs).squeeze(1) - targets).square()
                self.optimizer.zero_grad()
                self.ib.update(losses).backward()
                self.optimizer.step()
                seen.append(tuple(ids.tolist()))
                steps -= 1
                if steps == 0:
                    return seen
        return seen

    def save(self, checkpoint: str) -> None:
        parts = ("model", "optimizer", "ib")  # ib last: its report is printed
        torch.save({part: getattr(self, part).state_dict() for part in parts}, checkpoint)


never_stopped = Training()
expected = never_stopped.run(10**6, [])
first = Training()
seen = first.run(37, [])
first.save("resume_example.pt")  # the process may end here
second = Training("resume_example.pt")
second.run(10**6, seen)
equal = seen == expected and torch.equal(second.model.weight, never_stopped.model.weight)
print(f"{len(seen)} steps, ids and parameters {'equal' if equal else 'NOT equal'} to the bit")
