"""The official CIFAR example, its file unchanged, with this package instead of the official one.

It runs as a user runs it, in a process of its own. torchvision is the stand-in beside this file, which also
prints the learning rate at the end. The example needs no GPU: where there is none it says ``cpu`` itself.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infobatch

EPOCHS = 8
SIZE = 2000
BATCH = 64
PEAK = 0.01  # the example's own, 0.05, is one for longer runs
FULL_STEPS = -(-SIZE // BATCH)
STAND_IN = Path(__file__).parent / "stand_in"


def full_schedule() -> list[float]:
    """Learning rates of OneCycleLR by step, 0 .. T, where no sample is left out."""
    import torch
    from torch.optim.lr_scheduler import OneCycleLR

    total = EPOCHS * FULL_STEPS
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2, momentum=0.9)
    schedule = OneCycleLR(optimizer, PEAK, total_steps=total, div_factor=25, final_div_factor=10000)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(total):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    return rates


@pytest.fixture(scope="module")
def cpu_only() -> dict[str, str]:
    """The environment of the example: this package first on its path, no GPU, and one
    thread: on a machine that does other things, two wait for each other more than they work."""
    package = Path(infobatch.__file__).parent.parent
    path = [str(STAND_IN), str(package), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in path if entry),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.torch
@pytest.mark.numpy
def test_it_runs_unchanged_and_prunes_and_its_learning_rate_ends_where_it_should(
    official: Path, cpu_only: dict[str, str], tmp_path: Path
) -> None:
    example = official / "examples" / "cifar_example.py"
    command = [sys.executable, str(example), "--use_info_batch", "--num_epoch", str(EPOCHS)]
    command += ["--batch-size", str(BATCH), "--max-lr", str(PEAK)]
    ran = subprocess.run(
        command, cwd=tmp_path, env=cpu_only, capture_output=True, text=True, timeout=900, check=False
    )
    assert ran.returncode == 0, ran.stderr
    print("", *ran.stdout.splitlines()[-6:], sep="\n")
    assert "<class 'infobatch._torch.TorchSampler'>" in ran.stdout, "the sampler is that of this package"

    # Steps of each epoch, from len(loader) before it: the first and the last one are full, since
    # floor(0.875 * 8) = 7, and those between are shorter.
    steps = [int(found) for found in re.findall(r"^Epoch: \d+, iterations (\d+)$", ran.stdout, re.M)]
    assert len(steps) == EPOCHS
    assert steps[0] == steps[-1] == FULL_STEPS
    assert all(FULL_STEPS // 2 <= number < FULL_STEPS for number in steps[1:-1]), steps

    # What the example wrote. Of the samples below the mean half are left out in six of eight epochs: not
    # less than an eighth of the run here, and never more than 3/8 of it.
    (log,) = tmp_path.glob("*_cifar100_info_batch_log.json")
    _, pruned, ratio, accuracies, _ = json.loads(log.read_text())
    assert ratio == 0.5
    assert len(accuracies) == EPOCHS
    assert EPOCHS * SIZE / 8 < pruned < EPOCHS * SIZE * 3 / 8
    assert f"Total saved sample forwarding:  {pruned}\n" in ran.stdout
    # It is what the epochs were shorter by: each of them has one batch that may be short.
    delivered = EPOCHS * SIZE - pruned
    assert BATCH * (sum(steps) - EPOCHS) < delivered <= BATCH * sum(steps)
    assert accuracies[-1] > 3 * accuracies[0], "it learns"

    # Rule 15: len(loader) was that of the epoch about to begin each time, so the last schedule, rebuilt at
    # 7/8 of its steps, came to the end of the full run's.
    end = json.loads(ran.stdout.rpartition("stand-in:")[2])
    rates = full_schedule()
    assert end["step"] == end["total_steps"] == EPOCHS * FULL_STEPS
    assert end["rate"] == pytest.approx(rates[-1], rel=1e-6)
    assert rates[-2] == pytest.approx(PEAK / 25 / 10000), "the rate of the last step itself"
