"""Processes that need not load torch first: forks of a server that has. Each process of pytest has its own.

The server has loaded torch alone, so that a program imports infobatch as it does elsewhere, and has called
nothing of it: what has used torch's threads may not fork.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

#: An optimizer imports torch._dynamo when it is made.
PRELOADED = ["torch", "torch.distributed", "torch.utils.data", "torch._dynamo"]


def context(method: str = "forkserver") -> Any:
    """Of multiprocessing; where it is a forkserver's, that is the server."""
    made = multiprocessing.get_context(method)
    if method == "forkserver":
        made.set_forkserver_preload(PRELOADED)
    return made


class Done(NamedTuple):
    """What became of a program, as of one that `subprocess.run` has run."""

    returncode: int | None
    stdout: str
    stderr: str


def _enter(
    program: str, arguments: tuple[str, ...], folder: str, files: list[str], environment: dict[str, str]
) -> None:
    """Runs a program as the interpreter does that gets it as its argument, or behind -m."""
    for number, name in enumerate(files, start=1):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # the interpreter's own, for workers of loaders
    os.chdir(folder)
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _places(ranks: int) -> list[dict[str, str]]:
    """What torchrun tells each rank; nothing to a program that it does not start."""
    if ranks == 0:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    every = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    own = [{"RANK": rank, "LOCAL_RANK": rank} for rank in range(ranks)]
    return [{name: str(value) for name, value in {**every, **one}.items()} for one in own]


def run_program(
    program: Path | str,
    *arguments: str,
    folder: Path,
    ranks: int = 0,
    environment: dict[str, str] | None = None,
    timeout: float = 300,
) -> Done:
    """What ``python program arguments`` does in a folder, which gets what it prints, too; the name of a
    module stands behind -m. With ranks: what torchrun does. Where one fails, or is late, all are killed."""
    processes, outputs = [], []
    for rank, place in enumerate(_places(ranks)):
        files = [str(folder / f"{name}-{rank}") for name in ("stdout", "stderr")]
        process = context().Process(
            target=_enter,
            args=(str(program), arguments, str(folder), files, {**(environment or {}), **place}),
        )
        process.start()
        processes.append(process)
        outputs.append(files)
    deadline = time.monotonic() + timeout
    left = {process.sentinel: process for process in processes}
    while left and (ended := wait(list(left), deadline - time.monotonic())):
        for sentinel in ended:
            left.pop(sentinel).join()  # type: ignore[call-overload]
        if any(process.exitcode for process in processes):
            break
    for process in processes:
        process.kill()
        process.join()
    failed = [process.exitcode for process in processes if process.exitcode]
    stdout, stderr = (
        "".join(Path(name).read_text() for name in names if Path(name).exists())
        for names in zip(*outputs, strict=True)
    )
    return Done(failed[0] if failed else 0, stdout, stderr)


def run_text(text: str, *arguments: str, folder: Path) -> Done:
    """What ``python -c text arguments`` does where torch has been loaded."""
    program = folder / "program.py"
    program.write_text(text)
    return run_program(program, *arguments, folder=folder)
