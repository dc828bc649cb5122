#!/usr/bin/env python3
"""Trains the small CNN on CIFAR-10 with every sample, with the official package and with ours.

The recipe is that of the official CIFAR example: SGD, OneCycle (up over 30 % of the run from peak / 25,
down to peak / 250,000; momentum 0.95 to 0.85 and back), label smoothing 0.1, weight decay 5e-4, random
flip and crop with a reflected border of 4, batches of 128. The network is that of infobatch-train (95 k
parameters), with its peak learning rate.

What makes it fair: the arms are in one process and take turns, one epoch each, in an order that changes;
they start from the same parameters; an image looks the same in an epoch whichever arm trains on it; the
learning rate is a function of (epoch + batches done / batches of this epoch) / epochs in all of them; the
samplers are used alike, ``DataLoader(dataset, batch_size, sampler=...)``, and the data set delivers
indices, so that reading and augmenting pictures, done for a whole batch at once, costs the same everywhere.
A rest that fills no batch is left out, since each new batch size makes the convolution library compile anew.
The official package runs with its defect 1 repaired in memory; official_package.py says how.

Seconds are those of the training epochs: planning, loading, augmentation, forward, backward, optimizer.

    python bench/compare_training.py --official ../InfoBatch --data cifar-10-batches-bin --json training.json
    python bench/compare_training.py --table training.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from official_package import Official
from torch import Tensor, nn
from torch.utils.data import DataLoader

from infobatch import InfoBatch

MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)
SIDE = 32
BORDER = 4
ARMS = ("full", "official", "ours")


# --- data: pictures as tensors, a batch at a time


class Pictures:
    """Images and labels of the binary CIFAR-10 files.

    Attributes:
        packed: [N * 32 * 32] int32, the bytes red, green, blue and 0 of each pixel.
        labels: [N] int64.
    """

    def __init__(self, files: list[Path], limit: int | None = None) -> None:
        records = torch.cat(
            [torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8) for file in files]
        ).view(-1, 1 + 3 * SIDE * SIDE)[:limit]
        self.labels = records[:, 0].to(torch.int64)
        pixels = torch.zeros(len(records), SIDE * SIDE, 4, dtype=torch.uint8)
        pixels[:, :, :3] = records[:, 1:].view(-1, 3, SIDE * SIDE).transpose(1, 2)
        self.packed = pixels.view(torch.int32).flatten()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[B, 3, 32, 32] float32, channels last: of image ``ids[b]`` the pixels at ``rows[b]`` and
        ``columns[b]`` ([B, 32] each), normalised."""
        places = (ids * (SIDE * SIDE))[:, None, None] + rows[:, :, None] * SIDE + columns[:, None, :]
        pixels = self.packed[places].view(torch.uint8).view(len(ids), SIDE, SIDE, 4)[..., :3]
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(SCALE).add_(SHIFT)


SCALE = (1 / (255 * torch.tensor(DEVIATION))).view(1, 3, 1, 1)
SHIFT = (-torch.tensor(MEAN) / torch.tensor(DEVIATION)).view(1, 3, 1, 1)
STRAIGHT = torch.arange(SIDE)
# Where the pixel lies that a crop shows: by position in a picture with its border reflected.
REFLECTED = torch.tensor(
    [SIDE - 1 - abs(SIDE - 1 - abs(position)) for position in range(-BORDER, SIDE + BORDER)]
)


class Views:
    """How every picture looks in an epoch: a function of seed, epoch and id."""

    def __init__(self, seed: int, epoch: int, size: int) -> None:
        draws = torch.Generator().manual_seed(seed * 10_007 + epoch)
        self._down = torch.randint(2 * BORDER + 1, (size,), generator=draws)
        self._right = torch.randint(2 * BORDER + 1, (size,), generator=draws)
        self._mirrored = torch.randint(2, (size,), generator=draws, dtype=torch.bool)

    def of(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = REFLECTED[self._down[ids][:, None] + STRAIGHT]
        columns = REFLECTED[self._right[ids][:, None] + STRAIGHT]
        # The official order is flip, then crop.
        return rows, torch.where(self._mirrored[ids][:, None], SIDE - 1 - columns, columns)


class Ids:
    """What the loader loads: the index of a sample, whose picture is made later."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        if index >= self._size:
            raise IndexError(index)
        return index


# --- model and recipe


def small_cnn(classes: int) -> nn.Module:
    def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    model = nn.Sequential(
        *block(3, 32, 4, 2),
        nn.MaxPool2d(2),
        *block(32, 64, 3, 1),
        nn.MaxPool2d(2),
        *block(64, 128, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, classes),
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def one_cycle(progress: float, low: float, peak: float, end: float) -> float:
    """OneCycleLR's value at a fraction of the run."""

    def cosine(start: float, stop: float, fraction: float) -> float:
        return stop + (start - stop) / 2 * (1 + math.cos(math.pi * fraction))

    rise = 0.3
    return (
        cosine(low, peak, progress / rise) if progress < rise else cosine(peak, end, (progress - rise) / 0.7)
    )


# --- arms


class Arm:
    """A way to choose the samples of an epoch.

    Attributes:
        loader: over the ids of an epoch.
        update: the third line.
        planned: samples of the running epoch, known once its first batch is out.
        ids_of: what of a blob of the loader is the ids.
    """

    def __init__(self, name: str, size: int, args: argparse.Namespace, seed: int, official: Official) -> None:
        self.name = name
        self.update: Callable[[Tensor], Tensor] = torch.mean
        self.within: Callable[[], AbstractContextManager[None]] = nullcontext
        data: Any = Ids(size)
        sampler: Any = None
        if name == "official":
            self.within = official.patch
            data = official.InfoBatch(data, args.epochs, args.ratio, args.delta)
            sampler = data.sampler
            self.update = data.update
        elif name == "ours":
            data = InfoBatch(data, args.epochs, args.ratio, args.delta, seed=seed)
            sampler = data.sampler
            self.update = data.update
        shuffle = torch.Generator().manual_seed(seed)
        self.loader: DataLoader[Any] = DataLoader(
            data,
            batch_size=args.batch_size,
            sampler=sampler,
            shuffle=sampler is None,
            drop_last=True,
            generator=shuffle if sampler is None else None,
        )
        self._batch_size = args.batch_size
        self.planned = (lambda: size) if sampler is None else sampler.__len__

    def batches(self) -> Iterator[tuple[int, int, Tensor]]:
        """Number, total and ids of each batch of the next epoch."""
        total = 0
        for number, ids in enumerate(self.loader):
            if number == 0:
                total = self.planned() // self._batch_size
            yield number, total, ids


@dataclass
class Run:
    """Figures of one arm with one seed."""

    arm: str
    seed: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    samples_trained: int = 0
    saved: float = 0.0
    accuracy: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One arm's network in training."""

    def __init__(
        self, arm: Arm, seed: int, args: argparse.Namespace, train: Pictures, test: Pictures
    ) -> None:
        self.arm = arm
        self.run = Run(arm.name, seed)
        self._args, self._train, self._test = args, train, test
        torch.manual_seed(seed)
        self.model = small_cnn(10)
        self._optimizer = torch.optim.SGD(
            self.model.parameters(), lr=args.max_lr / 25, momentum=0.95, weight_decay=args.weight_decay
        )
        self._criterion = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")

    def epoch(self, epoch: int) -> None:
        args, run = self._args, self.run
        self.model.train()
        steps, samples, loss_sum = 0, 0, torch.zeros(())
        wall, cpu = time.perf_counter(), time.process_time()
        views = Views(run.seed, epoch, len(self._train))
        with self.arm.within():
            for number, total, ids in self.arm.batches():
                self._set_rates((epoch + number / total) / args.epochs)
                images = self._train.batch(ids, *views.of(ids))
                self._optimizer.zero_grad()
                losses = self._criterion(self.model(images), self._train.labels[ids])
                loss = self.arm.update(losses)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                loss_sum += loss.detach()
                steps, samples = number + 1, samples + len(ids)
                if number + 1 == args.steps:
                    break
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        run.seconds += wall
        run.cpu_seconds += cpu
        run.samples_trained += samples
        run.accuracy = self.accuracy()
        run.history.append(
            {
                "epoch": epoch,
                "samples": samples,
                "seconds": wall,
                "cpu_seconds": cpu,
                "loss": float(loss_sum) / max(steps, 1),
                "accuracy": run.accuracy,
            }
        )

    def _set_rates(self, progress: float) -> None:
        peak = self._args.max_lr
        for group in self._optimizer.param_groups:
            group["lr"] = one_cycle(progress, peak / 25, peak, peak / 250_000)
            group["momentum"] = one_cycle(progress, 0.95, 0.85, 0.95)

    def accuracy(self) -> float:
        """Per cent of the test set."""
        self.model.eval()
        right = 0
        with torch.inference_mode():
            for begin in range(0, len(self._test), 500):
                ids = torch.arange(begin, min(begin + 500, len(self._test)))
                straight = STRAIGHT.expand(len(ids), SIDE)
                images = self._test.batch(ids, straight, straight)
                right += int((self.model(images).argmax(1) == self._test.labels[ids]).sum())
        return 100 * right / len(self._test)


# --- the run, and what is written of it


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    official = Official(args.official)
    files = [args.data / f"data_batch_{number}.bin" for number in range(1, 6)]
    pictures, test = Pictures(files, args.samples), Pictures([args.data / "test_batch.bin"])
    full = len(pictures) // args.batch_size * args.batch_size * args.epochs
    config = {name: value for name, value in vars(args).items() if isinstance(value, int | float | list)}
    config |= {"train_samples": len(pictures), "samples_full": full}
    report: dict[str, Any] = {"config": config, "versions": versions(), "runs": []}
    begun = time.monotonic()
    warm_up(args, pictures, test, official)
    for seed in args.seeds:
        trainers = [
            Trainer(Arm(name, len(pictures), args, seed, official), seed, args, pictures, test)
            for name in args.arms
        ]
        report["runs"] += [trainer.run for trainer in trainers]
        for epoch in range(args.epochs):
            turn = epoch % len(trainers)
            for trainer in trainers[turn:] + trainers[:turn]:
                trainer.epoch(epoch)
                trainer.run.saved = 1 - trainer.run.samples_trained / full
                last = trainer.run.history[-1]
                print(
                    f"{time.monotonic() - begun:6.0f} s  seed {seed}  epoch {epoch:3}  {trainer.arm.name:8} "
                    f"{last['samples']:6} samples  {last['seconds']:6.2f} s  {last['cpu_seconds']:6.2f} CPU s"
                    f"  loss {last['loss']:.4f}  accuracy {last['accuracy']:.2f} %",
                    flush=True,
                )
            if args.json is not None:
                write(args.json, {**report, "runs": [asdict(run) for run in report["runs"]]})
    print()
    print_table({**report, "runs": [asdict(run) for run in report["runs"]]})


def warm_up(args: argparse.Namespace, train: Pictures, test: Pictures, official: Official) -> None:
    """A few steps that are thrown away: what a process pays once is on nobody's account."""
    few = argparse.Namespace(**{**vars(args), "steps": 5})
    for name in args.arms:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Trainer(Arm(name, len(train), few, 0, official), 0, few, train, test).epoch(0)


def versions() -> dict[str, str]:
    import infobatch

    processor = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"infobatch": infobatch.__version__, "torch": torch.__version__, "processor": processor}


def write(path: Path, report: dict[str, Any]) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    beside.replace(path)


def cell(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    text = f"{statistics.mean(values):.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def print_table(report: dict[str, Any]) -> None:
    """Means over the seeds, with the sample standard deviation; ratios against `full` of the same seed."""
    config, runs = report["config"], report["runs"]
    full = {run["seed"]: run for run in runs if run["arm"] == "full"}

    def ratios(arm: str, key: str) -> list[float]:
        return [
            (1 - run[key] / full[run["seed"]][key]) / run["saved"]
            for run in runs
            if run["arm"] == arm and run["saved"] > 0 and run["seed"] in full
        ]

    print(
        f"CIFAR-10, small CNN, {config['epochs']} epochs of {config['train_samples']:,} samples, batch "
        f"{config['batch_size']}, r = {config['ratio']}, delta = {config['delta']}, peak rate "
        f"{config['max_lr']}, seeds {', '.join(map(str, config['seeds']))}, {config['threads']} thread(s) of "
        f"{report['versions']['processor']}, torch {report['versions']['torch']}, arms interleaved\n"
    )
    print(
        "| arm | test accuracy, % | samples saved, % | CPU seconds | seconds "
        "| CPU seconds saved / samples saved | the same by the wall clock |\n|---|---|---|---|---|---|---|"
    )
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        print(
            f"| {arm} | {cell([run['accuracy'] for run in mine], 2)} "
            f"| {cell([100 * run['saved'] for run in mine], 1)} "
            f"| {cell([run['cpu_seconds'] for run in mine], 1)} "
            f"| {cell([run['seconds'] for run in mine], 1)} "
            f"| {cell(ratios(arm, 'cpu_seconds'), 3)} | {cell(ratios(arm, 'seconds'), 3)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="CIFAR-10 with every sample, the official package and ours, side by side"
    )
    parser.add_argument("--official", type=Path, help="folder of a checkout of the official package")
    parser.add_argument("--data", type=Path, help="folder of the binary CIFAR-10 files")
    parser.add_argument("--json", type=Path, help="where the figures go, after each epoch")
    parser.add_argument("--table", type=Path, help="print the table of such a file, and train nothing")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-lr", type=float, default=0.2)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--delta", type=float, default=0.875)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, help="only the first so many pictures")
    parser.add_argument("--steps", type=int, default=0, help="end an epoch after so many batches, to try it")
    args = parser.parse_args()
    if args.table is not None:
        print_table(json.loads(args.table.read_text(encoding="utf-8")))
        return
    if args.official is None or args.data is None:
        parser.error("--official and --data must be given")
    train(args)


if __name__ == "__main__":
    main()
