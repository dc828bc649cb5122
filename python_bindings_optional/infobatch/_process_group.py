"""Ranks over torch.distributed: any backend, a group of it or a dimension of a DeviceMesh."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ._errors import RankError
from ._ranks import Ranks, _failed, numbers

# Seconds between two looks into the store: soon at first, later not to burden it.
_SHORTEST, _LONGEST = 0.0005, 0.05

# Seconds that ranks have to say that they are there, where a collective failed.
_ROLL_CALL = 3.0

# Runs that were made on a group, by its name: what distinguishes their keys in the store.
_made: dict[str, int] = {}


def of_group(group: Any, timeout: float) -> Ranks | None:
    """The ranks of a group; None: all of torch.distributed."""
    if group is None:
        group = dist.group.WORLD
    elif hasattr(group, "get_group"):  # a DeviceMesh
        if group.ndim != 1:
            names = group.mesh_dim_names or tuple(range(group.ndim))
            raise ValueError(
                f"InfoBatch: group must be one dimension of a mesh, that of data parallelism, got one of "
                f"{group.ndim} ({', '.join(map(str, names))}): mesh[{str(names[0])!r}]"
            )
        group = group.get_group()
    if not isinstance(group, dist.ProcessGroup):
        raise ValueError(
            "InfoBatch: group must be a process group, one dimension of a DeviceMesh, (rank, size, "
            f"allgather) or False, got {type(group).__name__}"
            + (": this process is no member of it" if group is dist.GroupMember.NON_GROUP_MEMBER else "")
        )
    if dist.get_world_size(group) == 1:
        return None
    return GroupRanks(group, timeout)


class GroupRanks(Ranks):
    """The ranks of a process group."""

    def __init__(self, group: Any, timeout: float) -> None:
        super().__init__(dist.get_rank(group), dist.get_world_size(group), timeout)
        self._group = group
        self._device = _device_of(group)
        name = str(group.group_name)
        number = _made[name] = _made.get(name, 0) + 1
        members = "-".join(map(str, dist.get_process_group_ranks(group)[:2]))
        store: Any = dist.distributed_c10d._get_default_store()
        within: Any = dist.distributed_c10d.PrefixStore
        self._store = within(f"infobatch/{name}/{members}/{number}", store)
        self._meetings = 0

    # --- the meeting

    def meet(self, what: str) -> None:
        number = self._meetings
        self._meetings += 1
        deadline = time.monotonic() + self.timeout
        pause = _SHORTEST
        try:
            self._store.set(f"{number}/{self.rank}", what)
            come = self._store.add(f"{number}/count", 1)
            if come == 1:
                self._store.set(f"{number}/what", what)
            elif (other := self._store.get(f"{number}/what").decode()) != what:
                error = RankError(f"InfoBatch.{what}: all ranks must come to it, got others at {other}")
                self._store.set(f"{number}/failed", f"{self.rank} it came to {what} instead")
                raise error
            if self._store.check([f"{number}/gave up"]):
                rank = int(self._store.get(f"{number}/gave up"))
                raise RankError(
                    f"InfoBatch.{what}: all {self.size} ranks must come to it within the timeout, got this "
                    f"one, rank {self.rank}, when rank {rank} had given up waiting",
                    (self.rank,),
                )
            if come == self.size:
                self._store.set(f"{number}/all", "")
            while not self._store.check([f"{number}/all"]):
                if self._store.check([f"{number}/failed"]):
                    self._raise_failed(number, what)
                if time.monotonic() > deadline:
                    raise self._missing(number, what)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            if number > 1:  # nobody looks at that any more
                self._forget(f"{number - 2}/{self.rank}")
                if self.rank == 0:
                    for key in ("count", "what", "all"):
                        self._forget(f"{number - 2}/{key}")
        except RankError:
            raise
        except Exception as error:
            raise self._no_store(what, error) from error

    def fail(self, what: str, error: BaseException) -> None:
        number = self._meetings
        self._meetings += 1
        self._store.set(f"{number}/failed", f"{self.rank} {type(error).__name__}: {error}")

    def _raise_failed(self, number: int, what: str) -> None:
        rank, _, why = self._store.get(f"{number}/failed").decode("utf-8", "replace").partition(" ")
        raise _failed(what, [int(rank)], why)

    def _missing(self, number: int, what: str) -> RankError:
        missing = [r for r in range(self.size) if not self._store.check([f"{number}/{r}"])]
        self._store.set(f"{number}/gave up", str(self.rank))
        verb = "has" if len(missing) == 1 else "have"
        return RankError(
            f"InfoBatch.{what}: all {self.size} ranks must come to it, {numbers(missing or [self.rank])} "
            f"{verb} not within the timeout of {self.timeout:g} seconds: it was killed, it is slower than "
            "that (timeout=), or its loop takes another way",
            missing,
        )

    def _no_store(self, what: str, error: Exception) -> RankError:
        return RankError(
            f"InfoBatch.{what}: the store of torch.distributed cannot be reached ({_first_line(error)}): the "
            "process that serves it, rank 0 or the launcher, is gone",
            (0,),
        )

    def _forget(self, key: str) -> None:
        with suppress(Exception):  # not every store can
            self._store.delete_key(key)

    # --- collectives

    def gather(self, data: Any, what: str) -> Any:
        own = torch.frombuffer(data, dtype=torch.uint8) if len(data) else torch.empty(0, dtype=torch.uint8)
        found = torch.empty(self.size * own.numel(), dtype=torch.uint8, device=self._device)
        if own.numel():
            self._run(
                what, lambda: dist.all_gather_into_tensor(found, own.to(self._device), self._group, True)
            )
        return memoryview(_host_bytes(found))

    def largest(self, data: Any, what: str) -> Any:
        if not len(data):
            return bytearray()
        found = torch.frombuffer(data, dtype=torch.int32).to(self._device, copy=True)
        self._run(what, lambda: dist.all_reduce(found, dist.ReduceOp.MAX, self._group, True))
        return memoryview(_host_bytes(found.view(torch.uint8)))

    def _run(self, what: str, start: Any) -> None:
        try:
            self._finish(start())
        except Exception as error:
            raise self._broken(what, error) from error

    def _finish(self, work: Any) -> None:
        """Waits for a collective, and for one that another rank has seen to fail no longer than that."""
        deadline = time.monotonic() + self.timeout
        broken = f"{self._meetings - 1}/broken"
        pause = _SHORTEST / 5
        while not work.is_completed():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within the timeout of {self.timeout:g} seconds")
            if pause >= _LONGEST and self._store.check([broken]):
                raise ConnectionError(self._store.get(broken).decode("utf-8", "replace"))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
        work.wait(timedelta(seconds=self.timeout))

    def _broken(self, what: str, error: Exception) -> RankError:
        """A collective failed although all ranks had come: who is still there says so in the store."""
        number = self._meetings - 1
        rule = f"InfoBatch.{what}: the exchange failed ({_first_line(error)})"
        deadline = time.monotonic() + min(self.timeout, _ROLL_CALL)
        try:
            self._store.set(f"{number}/broken", _first_line(error))
            self._store.set(f"{number}/alive/{self.rank}", "")
            missing = list(range(self.size))
            while missing and time.monotonic() < deadline:
                missing = [r for r in missing if not self._store.check([f"{number}/alive/{r}"])]
                time.sleep(_LONGEST)
        except Exception as lost:
            return self._no_store(what, lost)
        if not missing:
            return RankError(f"{rule}, and all ranks are there", ())
        return RankError(f"{rule}: {numbers(missing)} went away in the midst of it", missing)


def _device_of(group: Any) -> torch.device:
    """Where the group's collectives take their tensors: the CPU where it can."""
    types = [pair.partition(":")[0] for pair in str(dist.get_backend_config(group)).split(",")]
    if "cpu" in types:
        return torch.device("cpu")
    accelerator: Any = getattr(torch, types[0])
    return torch.device(types[0], accelerator.current_device())


def _host_bytes(found: torch.Tensor) -> Any:
    from ._tensors import _bytes_of

    return _bytes_of(found.cpu().contiguous())


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


__all__ = ["GroupRanks", "of_group"]
