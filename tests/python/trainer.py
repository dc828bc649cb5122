"""Trainings in processes that are killed with SIGKILL at random steps and started anew, until one reaches the
end.

    python trainer.py FOLDER SEED LOADER:WORKERS ...

LOADER is ``sampler`` or ``batch_sampler``, with ``stateful_`` before it for torchdata's StatefulDataLoader.
Everything is saved with torch.save after every step, atomically. In FOLDER/LOADER:WORKERS ``log`` gets a line
a step: where the run stood, then the bits of its samples, weighted losses and losses; ``whole`` the same of a
run that never stopped; ``kills`` says at the end how often a process was killed.

Each training is a fork of this process, which has imported what they need.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from loops import Numbers

from infobatch import InfoBatch

SIZE, EPOCHS, BATCH = 130, 5, 8


class Samples(Numbers):
    def __getitem__(self, index: int) -> Any:
        return torch.tensor([index / SIZE, 1.0]), index


def loader_of(ib: InfoBatch, kind: str, workers: int) -> Any:
    from torch.utils.data import DataLoader

    make: Any = DataLoader
    if kind.startswith("stateful_"):
        from torchdata.stateful_dataloader import StatefulDataLoader

        make = StatefulDataLoader
    if kind.endswith("batch_sampler"):
        return make(ib, batch_sampler=ib.batch_sampler(BATCH), num_workers=workers)
    return make(ib, BATCH, sampler=ib.sampler, num_workers=workers)


def bits(values: Any) -> str:
    return values.detach().numpy().tobytes().hex()


def save(state: dict[str, Any], path: Path) -> None:
    beside = path.with_suffix(".new")
    torch.save(state, beside)
    os.replace(beside, path)


def train(folder: Path, log_name: str, kind: str, workers: int, saves: bool, slow_from: int = 0) -> None:
    """Trains to the end. From step `slow_from` on it waits between steps, so that a kill that comes late
    finds it."""
    torch.manual_seed(5)
    ib = InfoBatch(Samples(SIZE), EPOCHS, seed=11)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = loader_of(ib, kind, workers)
    path = folder / "state"
    if saves and path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ib.load_state_dict(state["infobatch"])
        if "loader" in state:
            loader.load_state_dict(state["loader"])
    log = os.open(folder / log_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    steps = 0
    while ib.epoch < EPOCHS:
        for inputs, targets in loader:
            losses = (model(inputs)[:, 0] - targets / SIZE) ** 2
            rows = ib.update(losses, reduction="none")
            optimizer.zero_grad()
            rows.mean().backward()
            optimizer.step()
            line = f"{ib.progress.hex()} {bits(targets)} {bits(rows)} {bits(losses)}\n"
            os.write(log, line.encode())  # with one call, so that a kill leaves whole lines
            if not saves:
                continue
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "infobatch": ib.state_dict(),
            }
            if kind.startswith("stateful_"):
                state["loader"] = loader.state_dict()
            save(state, path)
            steps += 1
            if steps >= slow_from:
                time.sleep(0.01)


def start(*arguments: Any) -> int:
    """A training in a process of its own; returns its id. It leads a group, for its workers."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        train(*arguments)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_again_and_again(folder: Path, rng: random.Random, kind: str, workers: int) -> int:
    """Returns how often, when a training has come to its end."""
    log, kills = folder / "log", 0
    while True:
        steps = rng.randint(1, 12)
        enough = lines(log) + steps
        child = start(folder, "log", kind, workers, True, steps)
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and lines(log) < enough:
            time.sleep(0.002)
        if ended[0] == 0:
            time.sleep(rng.random() * 0.004)  # anywhere in a step or a save
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            kills += 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # its workers, which would see to it in some seconds
        if ended[1] == 0:
            return kills
        if not os.WIFSIGNALED(ended[1]):
            sys.exit("a training failed")


def prepare() -> None:
    """What torch imports when it is first used. No backward pass: autograd would refuse to work in a fork."""
    with contextlib.suppress(ImportError):
        import torchdata.stateful_dataloader  # noqa: F401
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([parameter])
    optimizer.step()
    optimizer.zero_grad()
    iter(loader_of(InfoBatch(Samples(SIZE), EPOCHS), "sampler", 0))


def main() -> None:
    rng = random.Random(int(sys.argv[2]))
    torch.set_num_threads(1)
    prepare()
    for name in sys.argv[3:]:
        kind, _, workers = name.partition(":")
        folder = Path(sys.argv[1]) / name
        folder.mkdir()
        if os.waitpid(start(folder, "whole", kind, int(workers), False), 0)[1] != 0:
            sys.exit("the training that is not stopped failed")
        kills = kill_again_and_again(folder, rng, kind, int(workers))
        (folder / "kills").write_text(str(kills))


if __name__ == "__main__":
    main()
