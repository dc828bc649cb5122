"""How tests of trainers start a file of theirs as several processes, as torchrun does."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def launch(program: str, size: int, folder: Path, limit: float = 120) -> list[Any]:
    """Runs a program of this folder on ``size`` processes; each pickles what it found to
    ``<folder>/<rank>``, its argument. Returns what they found, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
        command = [sys.executable, str(ROOT / "tests" / "trainers" / program), str(folder / str(rank))]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        outputs = [process.communicate(timeout=limit)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(size)]


def example(name: str, *arguments: str) -> str:
    """What a program of examples/python/trainers prints."""
    path = ROOT / "examples" / "python" / "trainers" / name
    assert len(path.read_text().splitlines()) <= 60
    done = subprocess.run(
        [sys.executable, "-W", "error::infobatch.InfoBatchWarning", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
