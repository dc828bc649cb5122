"""How tests of trainers start programs as processes, each on its own or as several ranks.

Processes come from a server that has imported the trainers once, so that a new one takes no seconds.
"""

import multiprocessing
import os
import pickle
import runpy
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "python" / "trainers"

#: What the server imports, by what a program imports; where that is not here, it alone. It calls nothing: a
#: process that has used threads of torch may not fork. Ranks of Lightning do not come from it, for that reads
#: a process's rank when imported.
PRELOADED = {
    "lightning": ["lightning.pytorch", "lightning.fabric"],
    "transformers": ["transformers.trainer", "transformers.models.gpt2.modeling_gpt2", "accelerate"],
}


def _enter(
    path: str, arguments: list[str], environment: dict[str, str], folder: str, output: str, strict: bool
) -> None:
    """Runs a program as the interpreter does that gets it as its argument."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    if strict:
        from infobatch import InfoBatchWarning

        warnings.simplefilter("error", InfoBatchWarning)
    runpy.run_path(path, run_name="__main__")


def start(
    server: str,
    path: Path,
    output: Path,
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    strict: bool = False,
) -> Any:
    """A process of a program, which prints to a file, beside which it works. Strictly, a warning of infobatch
    is an error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED.get(server, [server]), "infobatch"])
    process = context.Process(
        target=_enter,
        args=(str(path), list(arguments), environment or {}, str(output.parent), str(output), strict),
    )
    process.start()
    return process


def wait(processes: list[Any], limit: float) -> None:
    try:
        for process in processes:
            process.join(limit)
    finally:
        for process in processes:
            process.kill()
            process.join()


def launch(
    program: str,
    size: int,
    folder: Path,
    limit: float = 120,
    server: str = "transformers",
    arguments: tuple[str, ...] = (),
) -> list[Any]:
    """Runs a program of this folder on ``size`` processes, as torchrun does; each pickles what it found to
    ``<folder>/<rank>``, its first argument. Returns what they found, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0, "NODE_RANK": 0}
        environment = {name: str(value) for name, value in place.items()}
        path = ROOT / "tests" / "trainers" / program
        given = (str(folder / str(rank)), *arguments)
        processes.append(start(server, path, folder / f"output-{rank}", given, environment))
    wait(processes, limit)
    for rank, process in enumerate(processes):
        assert process.exitcode == 0, (folder / f"output-{rank}").read_text()
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(size)]


def example(name: str, folder: Path, server: str = "transformers") -> str:
    """What a program of examples/python/trainers prints; a warning of infobatch is an error."""
    process = start(server, EXAMPLES / name, folder / "output", strict=True)
    wait([process], 120)
    output = (folder / "output").read_text()
    assert process.exitcode == 0, output
    return output


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package, which is loaded, cannot be imported, and the module of infobatch for it is not loaded."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"infobatch.{package}")
