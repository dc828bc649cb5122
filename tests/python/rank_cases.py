"""What runs on each rank in tests of ranks, and how its processes are started and watched.

Processes come from the server that has loaded torch (server.py), so that a new one takes no seconds.
"""

import contextlib
import hashlib
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from server import context

#: Seconds that a case may take before its processes are killed.
LIMIT = 90.0

N = 203
EPOCHS = 6


class World:
    """Where a case runs: its rank, how many there are, and a folder that all share."""

    def __init__(self, rank: int, size: int, folder: str) -> None:
        self.rank = rank
        self.size = size
        self.folder = Path(folder)

    def make(self, n: int = N, **options: Any) -> Any:
        from infobatch import InfoBatch

        settings = {"num_epochs": EPOCHS, "seed": 3, "timeout": 30, **options}
        return InfoBatch(n, **settings)


def _enter(case: str, rank: int, size: int, folder: str, port: int, pipe: Any, arguments: tuple) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.pop("WORLD_SIZE", None)
    try:
        if size > 0:
            store: Any = dist.TCPStore("127.0.0.1", port, is_master=False) if port else None
            where = {} if store else {"init_method": f"file://{folder}/store"}
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, **where)
        found = globals()[case](World(rank, max(size, 1), folder), *arguments)
        pipe.send(("done", found))
    except BaseException as error:
        ranks = getattr(error, "ranks", None)
        pipe.send(("raised", (type(error).__name__, str(error), ranks, traceback.format_exc())))
    finally:
        pipe.close()
        os._exit(0)  # a process group that lost a member may wait for it


def launch(case: str, size: int, folder: Path, *arguments: Any, port: int = 0) -> list[tuple[str, Any]]:
    """Runs a case of this file on ``size`` ranks (0: without torch.distributed): what became of each,
    ("done", result), ("raised", (type, text, ranks, traceback)), or ("killed", exit code)."""
    processes, pipes = [], []
    (folder / "store").unlink(missing_ok=True)
    for rank in range(max(size, 1)):
        ours, theirs = context().Pipe(duplex=False)
        process = context().Process(
            target=_enter, args=(case, rank, size, str(folder), port, theirs, arguments), daemon=True
        )
        process.start()
        theirs.close()
        processes.append(process)
        pipes.append(ours)
    found: dict[int, tuple[str, Any]] = {}
    deadline = time.monotonic() + LIMIT
    try:
        while len(found) < len(pipes) and time.monotonic() < deadline:
            waiting = [pipe for rank, pipe in enumerate(pipes) if rank not in found]
            for pipe in wait(waiting, timeout=1.0):
                rank = pipes.index(pipe)  # type: ignore[arg-type]
                try:
                    found[rank] = pipes[rank].recv()
                except EOFError:
                    processes[rank].join(5)
                    found[rank] = ("killed", processes[rank].exitcode)
    finally:
        for process in processes:
            process.join(2 if len(found) == len(pipes) else 0)
            if process.is_alive():
                process.kill()
                process.join()
    return [found.get(rank, ("late", None)) for rank in range(len(pipes))]


def run(case: str, size: int, folder: Path, *arguments: Any) -> list[Any]:
    """The results of a case that ends well on all ranks."""
    results = launch(case, size, folder, *arguments)
    for rank, (what, result) in enumerate(results):
        assert what == "done", f"rank {rank} of {size}: {what}\n{result[-1] if result else ''}"
    return [result for _, result in results]


# --- what cases share


def loss_of(sample: int, epoch: int) -> float:
    """A figure of sample and epoch alone, exact in float32."""
    return ((sample * 37 + epoch * 11) % 101 + 1) / 64


def losses(ids: Any, epoch: int) -> Any:
    import torch

    return torch.tensor([loss_of(int(i), epoch) for i in ids])


def digest(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(bytes(memoryview(array).cast("B")))
    return found.hexdigest()[:12]


def real(ib: Any, begin: int = 0) -> list[tuple[int, float]]:
    """Samples and weights of the share from a row on; None where it is padding."""
    plan = ib.plan
    rows = zip(plan.ids.tolist()[begin:], plan.weights.tolist()[begin:], strict=True)
    return [(sample, weight) if weight > 0 else None for sample, weight in rows]  # type: ignore[misc]


def scores(ib: Any) -> bytes:
    found = ib.scores
    return bytes(memoryview(found.numpy() if hasattr(found, "numpy") else found).cast("B"))


def plain(state: Any) -> dict[str, bytes]:
    """A state that goes through a pipe as it is."""
    return {name: bytes(memoryview(value.numpy())) for name, value in state.items()}


def train(ib: Any, batch: int = 8, steps: int = 10**6) -> list[int]:
    """The running epoch in order, or as many steps of it; the sizes of the batches."""
    sizes = []
    for ids in ib.batch_sampler(batch):
        epoch = ib.statistics.epoch
        ib.update(losses(ids, epoch))
        sizes.append(len(ids))
        if len(sizes) == steps:
            break
    return sizes


@contextlib.contextmanager
def caught() -> Iterator[list[str]]:
    """Names of the warnings, and their last words."""
    names: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield names
    names += [f"{type(item.message).__name__} {str(item.message)[-10:]}" for item in found]


# --- the cases


def epochs(world: World, way: str, options: dict[str, Any]) -> Any:
    """A whole run, and what there was in each epoch: share, sizes of batches, scores."""
    from torch.utils.data import DataLoader

    ib = world.make(**options) if way != "three_lines" else None
    if ib is None:
        from infobatch import InfoBatch

        ib = InfoBatch(list(range(N)), num_epochs=EPOCHS, seed=3, timeout=30, **options)
        loader = DataLoader(ib, batch_size=8, sampler=ib.sampler)
    found = []
    for epoch in range(EPOCHS):
        if way != "three_lines":
            ib.set_epoch(epoch)
        sizes = []
        share: Any = None
        if way == "three_lines":
            for ids in loader:
                share = share or real(ib)
                ib.update(losses(ids, epoch))
                sizes.append(len(ids))
        elif way == "ids":
            share = real(ib)
            for batch in ib.batch_sampler(8):
                ids = batch[::-1]
                ib.update(losses(ids, epoch), ids)
                sizes.append(len(ids))
        else:
            share = real(ib)
            sizes = train(ib)
        found.append((share, sizes, ib.statistics.kept))
    ib.set_epoch(EPOCHS)
    return found, scores(ib), repr(ib.statistics)


def gradients(world: World, n: int, batch: int, reduction: str, way: str, padding: str) -> Any:
    """Every gradient of a run with DDP; on one rank of the model itself."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(1)
    model: Any = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.randn(n, 5, dtype=torch.float32)
    y = torch.randn(n, 1)
    parameters = list(model.parameters())
    if world.size > 1:
        model = DistributedDataParallel(model)
    ib = world.make(n, keep="exact", padding=padding)
    optimizer = torch.optim.SGD(parameters, lr=0.001 if reduction == "sum" else 0.05)
    found, padded = [], 0
    for epoch in range(4):
        ib.set_epoch(epoch)
        begin = 0
        weights = ib.plan.weights.tolist()
        for ids in ib.batch_sampler(batch // world.size):
            values = (model(x[ids]) - y[ids]).square().mean(1)
            if 0.0 in weights[begin : begin + len(ids)]:
                padded += 1
            begin += len(ids)
            given = torch.tensor(ids) if way == "ids" else None
            optimizer.zero_grad()
            loss = ib.update(values, given, reduction=reduction)
            if reduction == "sum":
                loss = loss * world.size  # DDP averages
            loss.backward()
            found.append(torch.cat([p.grad.flatten() for p in parameters]).tolist())
            optimizer.step()
    return found, padded, len(ids)


def padding_alone(world: World, library: str) -> Any:
    """The last row of this share is padding, alone in its batch, and its loss is not even finite."""
    import torch

    ib = world.make(2 * 4 + 1)
    ib.set_epoch(0)
    found = []
    for ids in ib.batch_sampler(4):
        pads = world.rank == 1 and len(ids) == 1
        values = torch.full((len(ids),), float("nan") if pads else 2.0, requires_grad=True)
        if library == "torch":
            loss = ib.update(values)
            loss.backward()
            found.append((float(loss.detach()), values.grad.tolist()))
        elif library == "numpy":
            found.append((ib.update(values.detach().numpy(), reduction="weighted_mean"), []))
        else:
            found.append((ib.update(values.detach(), torch.tensor(ids), reduction=library), []))
    ib.set_epoch(1)
    return [(float(loss), grad) for loss, grad in found], scores(ib)


def stop(world: World, steps: int, way: str) -> Any:
    """An epoch and a part of the next one; the state in its midst, and how it goes on without a stop."""
    ib = world.make()
    train(ib)
    ib.set_epoch(1)
    if way == "ids":
        for step, ids in enumerate(ib.batch_sampler(8)):
            if step == steps:
                break
            if step != 0:  # the first batch is skipped
                ib.update(losses(ids, 1), ids)
        return plain(ib.state_dict()), None, None, 0
    sizes = train(ib, steps=steps)
    if way == "save":
        ib.save(world.folder / "state.safetensors")
        state: Any = str(world.folder / "state.safetensors")
    else:
        state = plain(ib.state_dict(local=way == "local"))
    rows = sum(sizes)
    rest = real(ib, rows)
    again = world.make()
    if way != "local":
        again.load_state_dict(state) if way == "state_dict" else again.load(state)
        train(again)
        again.set_epoch(2)
        return state, rest, scores(again), rows
    return state, rest, None, rows


def go_on(world: World, state: Any, way: str) -> Any:
    """Another number of ranks goes on with it."""
    ib = world.make()
    report = ib.load(state) if isinstance(state, str) else ib.load_state_dict(state)
    weights: dict[int, float] = {}
    rest: list[Any] = []
    for ids in ib.batch_sampler(8):
        weights = weights or dict(zip(ib.plan.ids, ib.plan.weights, strict=True))
        rest += [(sample, weights[sample]) if weights[sample] > 0 else None for sample in ids]
        ib.update(losses(ids, 1), ids if way == "ids" else None)
    ib.set_epoch(2)
    return report.epoch, rest, scores(ib), len(rest)


def checkpoint_then_lose(world: World, when: str, lost: int, timeout: float) -> Any:
    """A rank is killed in the midst of an epoch, or of an exchange, or is slow."""
    import torch.distributed as dist

    ib = world.make(timeout=timeout)
    train(ib)
    ib.set_epoch(1)
    train(ib, steps=3)
    ib.save(world.folder / "last.safetensors")
    ib.set_epoch(2)
    began = time.monotonic()
    if when == "epoch":
        train(ib, steps=2)
        if world.rank == lost:
            os.kill(os.getpid(), signal.SIGKILL)
    if when == "exchange":
        if world.rank == lost:
            ranks = ib._here.ranks

            def gather(data: Any, what: str) -> Any:
                if not isinstance(data, bytearray):  # not the headers: the losses
                    os.kill(os.getpid(), signal.SIGKILL)
                return type(ranks).gather(ranks, data, what)

            ranks.gather = gather
        train(ib)
    if when == "slow":
        train(ib)
        if world.rank == lost:
            time.sleep(timeout + 2.0)
    if when == "late":
        train(ib)
        if world.rank == lost:
            time.sleep(timeout / 2)
        ib.set_epoch(3)
        return scores(ib)
    began = time.monotonic()
    try:
        ib.set_epoch(3)
    except RuntimeError as error:
        ranks = getattr(error, "ranks", None)
        return type(error).__name__, str(error), ranks, time.monotonic() - began
    dist.barrier()
    return None


def resume(world: World) -> Any:
    ib = world.make()
    report = ib.load(world.folder / "last.safetensors")
    train(ib)
    ib.set_epoch(2)
    return report.epoch, report.position > 0, scores(ib)


def differ(world: World, what: str) -> Any:
    """Rank 1 does something else than the others."""
    odd = world.rank == 1
    if what == "size":
        world.make(N + odd)
    if what == "epochs":
        world.make(num_epochs=EPOCHS + odd)
    if what == "seed":
        world.make(seed=5 + odd)
    if what == "padding":
        world.make(padding="trim" if odd else "pad")
    ib = world.make(timeout=5)
    if what == "set_epoch":
        ib.set_epoch(1 + odd)
    if what == "call":
        ib.state_dict() if odd else ib.set_epoch(1)
    if what == "step":
        train(ib, steps=2 + odd)
        ib.state_dict()
    if what == "fails":
        from infobatch import InfoBatch

        data = list(range(50))
        ib = InfoBatch(data, num_epochs=4, seed=1, timeout=30)
        train(ib)
        if odd:
            data.append(1)
        train(ib)
    return "no refusal"


def other_scores(world: World) -> Any:
    """Rank 1 loads the state of another run with the same options."""
    states = []
    for shift in range(2):
        ib = world.make(group=False)
        for ids in ib.batch_sampler(8):
            ib.update(losses([i + shift for i in ids], 0))
        ib.set_epoch(1)
        states.append(ib.state_dict())
    ib = world.make()
    ib.load_state_dict(states[world.rank == 1])
    train(ib)
    return "no refusal"


def default_seed(world: World) -> Any:
    import torch

    from infobatch import InfoBatch

    torch.manual_seed(100 + world.rank)
    before = torch.random.get_rng_state()
    ib = InfoBatch(N, num_epochs=4)
    assert torch.equal(before, torch.random.get_rng_state())
    return ib._options["seed"], real(ib)


def traffic(world: World) -> Any:
    """What travels: nothing in a step, nothing where somebody only looks."""
    import torch.distributed as dist

    ib = world.make()
    ranks = ib._here.ranks
    calls: list[tuple[str, int]] = []
    for name in ("meet", "gather", "largest"):
        method = getattr(ranks, name)
        setattr(ranks, name, lambda *given, m=method, n=name: calls.append((n, len(given[0]))) or m(*given))
    counted = []
    collectives = [getattr(dist, name) for name in ("all_gather_into_tensor", "all_reduce", "broadcast")]
    for collective in collectives:
        setattr(dist, collective.__name__, lambda *a, c=collective, **k: counted.append(1) or c(*a, **k))
    ib.set_epoch(0)
    calls.clear()
    counted.clear()
    for ids in ib.batch_sampler(8):
        ib.update(losses(ids, 0))
        assert not calls, calls
        assert not counted
        len(ib.sampler), ib.statistics, ib.progress, ib.epoch, ib.plan, ib.state_dict(local=True)
    length = len(ib.sampler), len(ib.batch_sampler(8)), ib.plan.epoch
    assert not calls
    assert not counted
    ib.set_epoch(1)
    next(iter(ib.batch_sampler(8)))
    return calls, len(counted), length, len(ib.sampler)


def unsound(world: World) -> Any:
    """Rank 1 loses a batch behind its loader's back and breaks off; the others do not."""
    ib = world.make()
    with caught() as names:
        iterator = iter(ib.batch_sampler(8))
        held = next(iterator)
        for step, ids in enumerate(iterator):
            if world.rank == 1 and step == 3:
                break
            ib.update(losses(held, 0))
            held = ids
        else:
            ib.update(losses(held, 0))
        ib.set_epoch(1)
    return scores(ib), names, ib.statistics.dropped_total


def global_split(world: World) -> Any:
    """A framework splits: as Accelerate does it, whole batches in turns, the last round filled up with those
    of the beginning."""
    import torch

    ib = world.make(split="global")
    with_ids = []
    for epoch in range(3):
        ib.set_epoch(epoch)
        batches = list(ib.batch_sampler(8))
        first = batches[0]
        while len(batches) % world.size:
            batches.append(first)
        for ids in batches[world.rank :: world.size]:
            if epoch == 0 and world.rank == 0 and not with_ids:
                try:
                    ib.update(losses(ids, 0))
                except RuntimeError as error:
                    with_ids.append(str(error))
            ib.update(losses(ids, epoch), torch.tensor(ids))
    state = plain(ib.state_dict())
    ib.set_epoch(3)
    return scores(ib), with_ids, state, ib.statistics.kept


def streams(world: World, workers: int, drop: int) -> Any:
    """Every rank reads shards of its own, 0, 2, ... or 1, 3, ..., of different sizes."""
    from multiprocessing import current_process

    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    from infobatch import StreamWarning

    class Shards(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            shards = [range(first, min(first + 17, N)) for first in range(0, N, 17)][world.rank :: world.size]
            info = get_worker_info()
            for shard in shards if info is None else shards[info.id :: info.num_workers]:
                yield from shard

    refused = []
    if world.size > 1:
        try:
            world.make().filter(range(N), int)
        except ValueError as error:
            refused.append(str(error))
    ib = world.make(split="global")
    warnings.simplefilter("error", StreamWarning)
    current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # its loader has workers
    options = {"multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(ib.filter(Shards(), int), batch_size=8, num_workers=workers, **options)
    own, steps = [], []
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)
        own.append([])
        steps.append(len(ib.plan))
        for step, ids in enumerate(loader):
            if epoch == 2 and step == drop:
                break
            ib.update(losses(ids.tolist(), epoch), ids)
            own[-1] += ids.tolist()
    state = plain(ib.state_dict())
    ib.set_epoch(EPOCHS)
    return own, steps, scores(ib), refused, state


def split_twice(world: World) -> Any:
    """A framework takes every other batch of what is this rank's share already."""
    ib = world.make()
    for step, ids in enumerate(ib.batch_sampler(8)):
        if step % world.size == world.rank:
            ib.update(losses(ids, 0))
    return "no refusal"


def mesh(world: World) -> Any:
    """2 x 2: data times tensor parallelism. Ranks that share a layer see the same samples."""
    from torch.distributed.device_mesh import init_device_mesh

    both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    try:
        world.make(group=both)
        refused = ""
    except ValueError as error:
        refused = str(error)
    ib = world.make(group=both["dp"])
    share = []
    for epoch in range(3):
        ib.set_epoch(epoch)
        share.append(real(ib))
        train(ib)
    ib.set_epoch(3)
    group = world.make(group=both["dp"].get_group())
    return refused, share, scores(ib), both["dp"].get_local_rank(), len(group.sampler)


def copies(world: World) -> Any:
    """A copy in the midst of an epoch goes on by itself; a pickled one is a plain data set."""
    import copy
    import pickle

    import torch.distributed as dist

    ib = world.make(group=dist.group.WORLD)
    train(ib)
    ib.set_epoch(1)
    train(ib, steps=2)
    twin = copy.deepcopy(ib)
    rest = real(ib, 16)
    ids = next(iter(twin.batch_sampler(8)))
    assert ids == [sample for sample, _ in rest[:8]]
    plain = pickle.loads(pickle.dumps(ib))
    return len(plain), twin.plan.epoch


def compiled(world: World) -> Any:
    """A compiled step by ids, on several ranks."""
    import torch

    found = []
    for compiles in (False, True):
        ib = world.make(17, keep="exact")

        def step(ids: Any, values: Any, ib: Any = ib) -> Any:
            return ib.update(values, ids)

        call: Callable[..., Any] = (
            torch.compile(step, backend="eager", fullgraph=True, dynamic=True) if compiles else step
        )
        got = []
        for epoch in range(3):
            ib.set_epoch(epoch)
            for ids in ib.batch_sampler(4):
                got.append(float(call(torch.tensor(ids), losses(ids, epoch))))
        ib.set_epoch(3)
        found.append((got, scores(ib)))
    return found


def made_before(world: World) -> Any:
    """Made before torch.distributed was initialised, and nobody said anything."""
    import torch.distributed as dist

    dist.destroy_process_group()
    chosen, ib = world.make(group=False), world.make()
    train(ib, steps=2)
    dist.init_process_group(
        "gloo", init_method=f"file://{world.folder}/again", rank=world.rank, world_size=world.size
    )
    found = []
    for step in (lambda: ib.set_epoch(1), lambda: train(ib), lambda: train(chosen)):
        try:
            step()
        except RuntimeError as error:
            found.append(str(error))
    return found


def by_numbers(world: World) -> Any:
    """A run of (rank, size) is that of all ranks; other numbers say nothing."""
    plans = []
    for group in ((world.rank, world.size), None):
        ib = world.make(group=group)
        plans.append((list(ib.plan.ids), ib.statistics.size))
    try:
        world.make(group=(0, 3))
    except ValueError as error:
        return plans[0] == plans[1] and len(plans[0][0]) < N, str(error)
    return False, "nothing was raised"


def alone(world: World, environment: dict[str, str], options: dict[str, Any]) -> Any:
    """Without torch.distributed."""
    os.environ.update(environment)
    ib = world.make(**options)
    return len(ib.sampler), ib._here.ranks is None


__all__ = ["EPOCHS", "LIMIT", "N", "World", "digest", "launch", "loss_of", "run"]


def kinds_of_samplers(world: World) -> list[Any]:
    from torch.utils.data import DistributedSampler

    share = world.make().sampler
    dealt = world.make(split="global").sampler
    alone = world.make(group=False).sampler
    are = [isinstance(sampler, DistributedSampler) for sampler in (share, dealt, alone)]
    return [*are, share.rank, share.num_replicas, len(list(share))]
