"""Devices that work through the boundaries of a run: the processor, and those whose library is installed.

The distribution ``infobatch-cuda`` carries the library of CUDA. It is loaded where a run asks for that
device, and nowhere else.
"""

from __future__ import annotations

import os
from ctypes import byref, c_char_p
from dataclasses import dataclass
from typing import Any

from ._errors import InfoBatchWarning
from ._library import lib
from ._session import warn

#: What torch calls a device -> the package that carries its library, the library, and a developer's own.
_PACKAGES = {"cuda": ("infobatch_cuda", "libinfobatch_cuda.so", "INFOBATCH_CUDA_LIBRARY")}

#: Libraries that could not be loaded, and why; each is told once.
_told: set[str] = set()


@dataclass(frozen=True)
class Device:
    """A kind of device, and whether runs can be made for it.

    Attributes:
        type: as torch names it, ``"cpu"``, ``"cuda"``.
        backend: what works there, for ``InfoBatch(..., backend=...)``; ``""`` where nothing does.
        library: path of its library; ``""``: the package's own.
        reason: why nothing works there; ``""`` where something does.

    >>> Device("cuda", "", "libinfobatch_cuda.so", "no CUDA device").reason
    'no CUDA device'
    """

    type: str
    backend: str
    library: str = ""
    reason: str = ""


def devices() -> tuple[Device, ...]:
    """The devices that can work through the boundaries of a run, the processor first; and those whose library
    is installed but of no use here, with the reason. Loads these libraries.

    Runs on any device train without them, by tensor operations and with the boundary on the processor.

    >>> devices()[0]
    Device(type='cpu', backend='cpu', library='', reason='')
    """
    found = [Device("cpu", "cpu")]
    for kind in _PACKAGES:
        path = _library_of(kind)
        if path is None:
            continue
        try:
            found.append(Device(kind, _load(path), path))
        except ValueError as error:
            found.append(Device(kind, "", path, str(error)))
    known = {device.backend for device in found}
    found += [Device(kind, name) for name, kind in _loaded() if name not in known]
    return tuple(found)


def choose(device: Any, backend: str | None) -> str | None:
    """The backend of a run; None: the processor's.

    Args:
        device: where the losses will be, as torch says it, or None.
        backend: the one that the program wants, or None.

    Raises:
        ValueError: there is no such backend, or its library cannot be used here.
    """
    if backend is not None:
        if not isinstance(backend, str):
            raise TypeError(f"InfoBatch: backend must be a name, got {type(backend).__name__}")
        return None if backend == "cpu" else _wanted(backend)
    kind = _type_of(device)
    for name, of in _loaded():
        if of == kind:
            return name
    path = _library_of(kind)
    if path is None:
        return None
    try:
        return _load(path)
    except ValueError as error:
        if path not in _told:
            _told.add(path)
            warn(
                f"InfoBatch: the library of {kind} is installed but cannot be used, so the boundary of an "
                f"epoch stays on the processor: {error}. backend='cpu' says that this is wanted",
                InfoBatchWarning,
            )
        return None


def _wanted(backend: str) -> str:
    if backend in (name for name, _ in _loaded()):
        return backend
    path = _library_of(backend)
    if path is None:
        there = ", ".join(["cpu", *(name for name, _ in _loaded())])
        cure = "; pip install infobatch-cuda" if backend == "cuda" else ""
        raise ValueError(
            f"InfoBatch: backend must be one whose library is installed ({there}), got {backend!r}{cure}"
        )
    try:
        return _load(path)
    except ValueError as error:
        raise ValueError(f"InfoBatch: backend {backend!r} cannot be used here: {error}") from None


def _type_of(device: Any) -> str:
    """``"cuda"`` of a device, its name, or the index of one."""
    if device is None:
        return ""
    if isinstance(device, int):
        import torch

        device = torch.device(device)
    return str(getattr(device, "type", device)).split(":")[0]


def _library_of(kind: str) -> str | None:
    """Path of the library for devices of this type; None where none is installed."""
    if kind not in _PACKAGES:
        return None
    package, name, variable = _PACKAGES[kind]
    given = os.environ.get(variable)
    if given:
        return given
    from importlib.util import find_spec

    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return os.path.join(next(iter(folders)), name) if folders else None


def _load(path: str) -> str:
    """The name of the backend. Raises ValueError with no more than the reason."""
    name = c_char_p()
    if lib.ib_load_backend(os.fsencode(path), byref(name)):
        raise ValueError((lib.ib_last_reason() or b"").decode("utf-8", "replace"))
    return (name.value or b"").decode()


def _loaded() -> list[tuple[str, str]]:
    """Name and type of device of each backend that was loaded."""
    found = []
    index = 1
    while (name := lib.ib_backend_name(index)) is not None:
        found.append((name.decode(), (lib.ib_backend_device(index) or b"").decode()))
        index += 1
    return found


__all__ = ["Device", "choose", "devices"]
