"""What a step on a device costs with torch's own operations: a bare mean, the package, the official sequence.

    python bench/cuda_step.py [--device cuda] [--json FILE]

Prints microseconds a step, for batches of 128 and 1024: the median of 11 rounds of 200 steps between two
waits. The official sequence is what its update does on a device: losses and ids come to the host, indices and
weights go back, blocking. --device cpu shows that the program runs.
"""

import argparse
import json
import statistics
import time

import torch

import infobatch

ROUNDS, STEPS = 11, 200


def microseconds(step, device) -> float:
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for _ in range(ROUNDS + 1):
        wait()
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        wait()
        times.append((time.perf_counter() - began) / STEPS * 1e6)
    return statistics.median(times[1:])


def package_step(batch: int, device):
    """`update` of the package alone: all batches of one long epoch were delivered before."""
    run = infobatch.InfoBatch(batch * STEPS * (ROUNDS + 1), 1000, device=device)
    losses = torch.rand(batch, device=device)
    for _ in run.batch_sampler(batch):
        pass
    return lambda: run.update(losses)


def official_step(batch: int, device):
    scores = torch.ones(batch * 64)
    weights = torch.ones(batch * 64)
    ids = torch.arange(batch)
    losses = torch.rand(batch, device=device)

    def step():
        chosen = ids.to(device)
        scores[chosen.cpu()] = losses.detach().cpu()
        (losses * weights[ids].to(device)).mean()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json")
    options = parser.parse_args()
    device = torch.device(options.device)
    figures = []
    for batch in (128, 1024):
        losses = torch.rand(batch, device=device)
        for name, step in (
            ("a bare mean", losses.mean),
            ("the package, plain operations", package_step(batch, device)),
            ("the official sequence of copies", official_step(batch, device)),
        ):
            figures.append(
                {"name": name, "batch": batch, "microseconds": round(microseconds(step, device), 3)}
            )
            print(f"{figures[-1]['microseconds']:10.2f} us  B = {batch:5}  {name}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"device": str(device), "torch": torch.__version__, "figures": figures}, file, indent=1)


if __name__ == "__main__":
    main()
