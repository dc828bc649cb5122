#!/usr/bin/env python3
"""What an epoch, a batch and a step cost with the official package and with ours, in one process.

    python bench/compare_official.py --official ../InfoBatch --json official.json
    python bench/compare_official.py --table official.json

The official package runs with its defect 1 repaired in memory; official_package.py says how. Its files stay
as they are. Scores are exponentially distributed, so a pruned epoch keeps 68 % of the samples.

- boundary: from the last update of an epoch to the first batch of the next one in hand.
- delivery: the rest of the epoch, an index, in batches of 1024 as a loader asks for them.
- loader: a batch of 1024 in a DataLoader, more than with torch's RandomSampler over the same data set. A
  sample is a number, so the loader itself costs little, and the first batches, where an epoch begins and
  workers start, are not counted.
- update: the third line, more than a bare ``losses.mean()``, forward alone and with backward.

Arms take turns within each figure, in an order that changes; a figure is the median over the turns, a
difference the median over the differences of one turn. Where batches or steps are timed one by one, a turn
is their median. Beside the wall clock stands the processor time (of the loader: that of the main thread),
which is the one to read on a machine that does other things, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from official_package import Official
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

import infobatch
from infobatch import Indexed, InfoBatch

EPOCHS = 1_000_000
BATCH = 1024
FEED = 1 << 18
STEPS = 200  # of a turn
CLOCKS = {"wall": "wall clock", "cpu": "CPU"}
SETTLED = 10  # batches of a loader that are not counted: four workers fetch eight ahead

Span = tuple[float, float]  # seconds: wall clock, processor time of the main thread
Turn = Callable[[], Span]
Figures = dict[str, list[Span]]


class Numbers:
    """Samples that are their own index."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        return index


class Stopwatch:
    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def span(self, parts: int = 1) -> Span:
        """Of each part of what was done since the watch was made."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return wall / parts, cpu / parts


def middle(times: Iterable[float]) -> Span:
    """Of steps that are too short for the clock of the processor time."""
    found = statistics.median(times)
    return found, found


def take_turns(arms: dict[str, Turn], seconds: float, least: int) -> Figures:
    """Calls the arms one after the other until the time is spent, each at least so often."""
    found: Figures = {name: [] for name in arms}
    names = list(arms)
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        for name in names:  # once, not counted
            arms[name]()
        turn = 0
        while turn < least or (time.perf_counter() < end and turn < 400):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(arms[name]())
            turn += 1
    finally:
        gc.enable()
    return found


# --- runs that are in the middle of their epochs


def ours_of(data: Any, size: int, threads: int = 0) -> InfoBatch:
    ib = InfoBatch(data, EPOCHS, seed=1, threads=threads)
    observe_epoch(ib)
    return ib


def observe_epoch(ib: InfoBatch) -> None:
    for ids in ib.batch_sampler(FEED):
        ib.update(torch.empty(len(ids)).exponential_())


def official_of(official: Official, data: Any) -> Any:
    run = official.InfoBatch(data, EPOCHS)
    run.scores.exponential_()
    return run


# --- figures; seconds, each turn


def boundary(size: int, official: Official) -> dict[str, Turn]:
    def ours(threads: int) -> Turn:
        ib = ours_of(size, size, threads)

        def turn() -> Span:
            observe_epoch(ib)
            watch = Stopwatch()
            next(iter(ib.batch_sampler(BATCH)))
            return watch.span()

        return turn

    theirs = official_of(official, Numbers(size))
    sampler = theirs.sampler

    def turn() -> Span:
        theirs.scores.exponential_()
        watch = Stopwatch()
        next(iter(BatchSampler(sampler, BATCH, False)))
        return watch.span()

    return {"official": turn, "ours, one thread": ours(1), "ours": ours(0)}


def deliver(size: int, official: Official) -> dict[str, Turn]:
    def turns(make: Callable[[], Iterable[list[int]]], length: Callable[[], int]) -> Turn:
        def turn() -> Span:
            batches = iter(make())
            next(batches)
            watch = Stopwatch()
            deque(batches, maxlen=0)
            return watch.span(length() - BATCH)

        return turn

    data = Numbers(size)
    ib = ours_of(size, size)
    theirs = official_of(official, data).sampler
    return {
        "RandomSampler": turns(lambda: BatchSampler(RandomSampler(data), BATCH, False), lambda: size),
        "official": turns(lambda: BatchSampler(theirs, BATCH, False), lambda: len(theirs)),
        "ours, sampler=": turns(lambda: BatchSampler(ib.sampler, BATCH, False), lambda: len(ib.sampler)),
        "ours, batch_sampler=": turns(lambda: ib.batch_sampler(BATCH), lambda: len(ib.sampler)),
    }


def loader(size: int, official: Official, workers: int, batches: int) -> dict[str, Turn]:
    def turns(
        data: Any, within: Callable[[], Any] = nullcontext, batch_size: int = BATCH, **options: Any
    ) -> Turn:
        options |= {"num_workers": workers}
        if "batch_sampler" not in options:
            options["batch_size"] = batch_size
        made: DataLoader[Any] = DataLoader(data, **options)

        def turn() -> Span:
            with within():
                iterator = iter(made)
                count = min(len(made), batches) - SETTLED
                for _ in range(SETTLED):
                    next(iterator)
                times = []
                cpu = time.thread_time()
                for _ in range(count):
                    begin = time.perf_counter()
                    next(iterator)
                    times.append(time.perf_counter() - begin)
                cpu = (time.thread_time() - cpu) / count
            # Workers deliver in bursts: a median of single waits would say nothing.
            wall = statistics.mean(times) if workers else statistics.median(times)
            return wall, cpu

        return turn

    data = Numbers(size)
    wrapped, native, theirs = ours_of(data, size), ours_of(size, size), official_of(official, data)
    return {
        "RandomSampler": turns(data, sampler=RandomSampler(data)),
        "official": turns(theirs, official.patch, sampler=theirs.sampler),
        "ours, sampler=": turns(wrapped, sampler=wrapped.sampler),
        "ours, batch_sampler=": turns(data, batch_sampler=native.batch_sampler(BATCH)),
        "ours, Indexed": turns(Indexed(data), batch_sampler=native.batch_sampler(BATCH)),
    }


def update(size: int, official: Official, batch: int, backward: bool) -> dict[str, Turn]:
    values = torch.empty(batch).exponential_().requires_grad_()

    def step(third_line: Callable[[Tensor], Tensor]) -> float:
        losses = values * 1.0
        if backward:
            begin = time.perf_counter()
            third_line(losses).backward()  # type: ignore[no-untyped-call]
            return time.perf_counter() - begin
        begin = time.perf_counter()
        third_line(losses)
        return time.perf_counter() - begin

    def ours(make: Callable[[InfoBatch], Iterable[list[int]]], by_ids: bool = False) -> Turn:
        ib = ours_of(size, size)

        def third_line(ids: list[int]) -> Callable[[Tensor], Tensor]:
            numbers = torch.tensor(ids)
            return (lambda losses: ib.update(losses, numbers)) if by_ids else ib.update

        def turn() -> Span:
            return middle(step(third_line(ids)) for ids in islice(make(ib), STEPS))

        return turn

    theirs = official_of(official, Numbers(size))
    sampler = theirs.sampler

    def official_step(ids: list[int]) -> float:
        theirs.set_active_indices(torch.tensor(ids))
        return step(theirs.update)

    def official_turn() -> Span:
        return middle(official_step(ids) for ids in islice(BatchSampler(sampler, batch, True), STEPS))

    def bare_turn() -> Span:
        return middle(step(torch.mean) for _ in range(STEPS))

    return {
        "losses.mean()": bare_turn,
        "official": official_turn,
        "ours, sampler=": ours(lambda ib: BatchSampler(ib.sampler, batch, True)),
        "ours, batch_sampler=": ours(lambda ib: ib.batch_sampler(batch, drop_last=True)),
        "ours, ids": ours(lambda ib: ib.batch_sampler(batch, drop_last=True), by_ids=True),
    }


# --- the run, and what is written of it


class Report:
    """Rows of figures, one an arm: its values by turn, and what they are measured from."""

    def __init__(self, config: dict[str, Any], versions: dict[str, str]) -> None:
        self.config = config
        self.versions = versions
        self.rows: list[dict[str, Any]] = []

    def add(self, figure: str, size: int, unit: str, scale: float, turns: Figures, base: str | None) -> None:
        """``base``: the arm that the others are measured from."""
        for arm, spans in turns.items():
            row: dict[str, Any] = {"figure": figure, "size": size, "arm": arm, "unit": unit, "base": base}
            for clock, which in (("wall", 0), ("cpu", 1)):
                values = [scale * span[which] for span in spans]
                if base is not None and arm != base:
                    values = [
                        value - scale * span[which] for value, span in zip(values, turns[base], strict=True)
                    ]
                row[clock] = statistics.median(values)
                row[f"{clock}_turns"] = values
            self.rows.append(row)
        added = self.rows[-len(turns) :]
        shown = ", ".join(f"{row['arm']}: {_number(row['wall'])} ({_number(row['cpu'])})" for row in added)
        print(
            f"{size:>12,}  {figure} [{unit}]  {shown}  ({len(next(iter(turns.values())))} turns)", flush=True
        )

    def as_dict(self) -> dict[str, Any]:
        return {"config": self.config, "versions": self.versions, "rows": self.rows}


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", infobatch.UpdateForgottenWarning)
    official = Official(args.official)
    config = {"sizes": args.sizes, "seconds": args.seconds, "threads": args.threads, "batches": args.batches}
    report = Report(config, versions())
    for size in args.sizes:
        if "boundary" in args.figures:
            turns = take_turns(boundary(size, official), args.seconds, 5)
            report.add("boundary", size, "ms", 1e3, turns, None)
        if "delivery" in args.figures:
            turns = take_turns(deliver(size, official), args.seconds, 3)
            report.add("delivery, an index", size, "ns", 1e9, turns, None)
        if "loader" in args.figures:
            for workers in args.workers:
                turns = take_turns(loader(size, official, workers, args.batches), args.seconds, 3)
                report.add(f"loader, {workers} workers", size, "us", 1e6, turns, "RandomSampler")
        if "update" in args.figures:
            for batch in args.batch_sizes:
                for backward in (False, True):
                    arms = update(size, official, batch, backward)
                    turns = take_turns(arms, args.seconds, 3)
                    figure = f"update, B = {batch}{', with backward' if backward else ''}"
                    report.add(figure, size, "us", 1e6, turns, "losses.mean()")
        if args.json is not None:
            beside = args.json.with_name(args.json.name + ".tmp")
            beside.write_text(json.dumps(report.as_dict(), indent=1), encoding="utf-8")
            beside.replace(args.json)
    print()
    print_table(report.as_dict(), args.clocks)


def versions() -> dict[str, str]:
    processor = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith(("model name", "flags"))]
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
        if any(" avx512f " in line for line in lines):
            processor += ", AVX-512"
    return {"infobatch": infobatch.__version__, "torch": torch.__version__, "processor": processor}


def print_table(report: dict[str, Any], clocks: list[str]) -> None:
    """One table a figure; the ratio is of the official package to the better of ours."""
    rows = report["rows"]
    print(
        f"{report['config']['threads']} thread(s) of {report['versions']['processor']}, torch "
        f"{report['versions']['torch']}; medians\n"
    )
    for figure in dict.fromkeys(row["figure"] for row in rows):
        mine = [row for row in rows if row["figure"] == figure]
        arms = list(dict.fromkeys(row["arm"] for row in mine))
        base, unit = mine[0]["base"], mine[0]["unit"]
        heads = [arm if base in (None, arm) else f"{arm}, more" for arm in arms]
        if base is None:
            heads.append("ratio")
        print(f"| {figure}, {unit} | N | " + " | ".join(heads) + " |\n" + "|---" * (2 + len(heads)) + "|")
        for clock in clocks:
            for size in dict.fromkeys(row["size"] for row in mine):
                found = {row["arm"]: row[clock] for row in mine if row["size"] == size}
                cells = [_number(found[arm]) for arm in arms]
                if base is None:
                    ours = min(value for arm, value in found.items() if arm.startswith("ours"))
                    cells.append(f"{found['official'] / ours:.3g}x")
                print(f"| {CLOCKS[clock]} | {size:,} | " + " | ".join(cells) + " |")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description="The official package and ours, side by side")
    figures = ["boundary", "delivery", "loader", "update"]
    parser.add_argument("--official", type=Path, help="folder of a checkout of the official package")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, help="print the tables of such a file, and measure nothing")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 1_281_167, 14_000_000])
    parser.add_argument("--figures", nargs="+", choices=figures, default=figures)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1024], help="of update")
    parser.add_argument("--batches", type=int, default=400, help="of an epoch that a loader is timed over")
    parser.add_argument("--seconds", type=float, default=8, help="spent on each figure of each size")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--clocks", nargs="+", choices=list(CLOCKS), default=list(CLOCKS), help="of the tables"
    )
    args = parser.parse_args()
    if args.table is not None:
        print_table(json.loads(args.table.read_text(encoding="utf-8")), args.clocks)
        return
    if args.official is None:
        parser.error("--official must be given")
    measure(args)


if __name__ == "__main__":
    main()
