"""Devices without hardware, to see what a step does to one.

- ``device()``: a device of torch's PrivateUse1 kind whose tensors have their values in host memory. What
  runs on it is counted, and what makes the host wait for it is refused.
- ``RefuseWaiting``: the same refusal for tensors without values (FakeTensorMode).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "fakegpu"

#: Operators whose result the host needs to go on.
_WAITING = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "item", "is_nonzero", "_unique2"}
#: Operators that start nothing on a device.
_FREE = {"view", "_unsafe_view", "slice", "select", "detach", "alias", "expand", "unsqueeze", "squeeze", "t"}
_FREE |= {"transpose", "permute", "as_strided", "split", "empty", "empty_strided", "view_as", "reshape"}


class Waits(RuntimeError):
    """A step made the host wait for the device."""


class OnDevice(torch.Tensor):
    """A tensor of the device: its values lie in ``inner``, on the host."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
            requires_grad=requires_grad,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func}: outside of the device's mode")


def _is_this(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


class Device(TorchDispatchMode):
    """Runs what concerns tensors of the device on their values, counts it, and refuses waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0
        self.to_host: list[int] = []  # sizes of the copies to the host that were allowed
        self.may_wait = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, copies to the host are allowed, as at the end of an epoch."""
        before, self.may_wait = self.may_wait, True
        try:
            yield
        finally:
            self.may_wait = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._opname
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        target = kwargs.get("device")
        if not ours and not _is_this(target):
            return func(*args, **kwargs)
        if name in _WAITING:
            self._wait(f"{func}", 0)
        mixed = [t for t in tensors if not isinstance(t, OnDevice) and t.dim() > 0]
        inner_args, inner_kwargs = tree_map(
            lambda leaf: leaf.inner if isinstance(leaf, OnDevice) else leaf, (args, kwargs)
        )
        stays = target is None or _is_this(target)
        if target is not None:
            inner_kwargs["device"] = "cpu"
        if name in ("_to_copy", "copy_", "to"):
            source = args[1] if name == "copy_" else args[0]
            to_host = isinstance(source, OnDevice) and not (
                stays and (name != "copy_" or isinstance(args[0], OnDevice))
            )
            if to_host:
                self._wait(f"{func} to the host", source.numel())
        elif mixed:
            raise RuntimeError(f"{func}: tensors of two devices")
        out = func(*inner_args, **inner_kwargs)
        if name not in _FREE:
            self.launches += 1
        if name.endswith("_") or name == "copy_":
            return args[0]
        if not stays:
            return out
        return tree_map(lambda leaf: OnDevice(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)

    def _wait(self, what: str, size: int) -> None:
        if not self.may_wait:
            raise Waits(what)
        self.to_host.append(size)


def device() -> Device:
    """The device; its name is ``fakegpu``. Raises ImportError where torch cannot have one in Python."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as setup

    if torch._C._get_privateuse1_backend_name() != NAME:
        setup(NAME)
    return Device()


class RefuseWaiting(TorchDispatchMode):
    """Refuses copies to the host; on top of FakeTensorMode, which refuses to tell a value."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._opname in ("_to_copy", "copy_"):
            source = args[1] if func._opname == "copy_" else args[0]
            if source.device.type != "cpu" and out.device.type == "cpu":
                raise Waits(f"{func} to the host")
        return out


#: What somebody might put into a step: each makes the host wait.
MISTAKES: dict[str, Callable[[torch.Tensor], Any]] = {
    "cpu": lambda losses: losses.cpu(),
    "item": lambda losses: losses.sum().item(),
    "nonzero": lambda losses: losses.nonzero(),
    "isfinite": lambda losses: bool(losses.isfinite().all()),
}
