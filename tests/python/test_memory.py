"""Plans give their memory back: with the last reference, and to the plans of later epochs.

New memory costs more than the plan that is written into it: the system clears it page by page.
"""

import ctypes
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from infobatch import InfoBatch

EPOCHS = 16
SIZE = 5000


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No collection of cycles meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def address(view: memoryview) -> int:
    return ctypes.addressof(view.obj)  # type: ignore[arg-type]


def test_a_plan_ends_with_its_last_reference(no_collector: None) -> None:
    ib = InfoBatch(100, EPOCHS, seed=1)
    plan = ib.plan
    held = weakref.ref(plan.id_array.owner)
    ids = plan.ids
    del plan
    assert held() is not None, "the ids are in use"
    assert sorted(ids) == list(range(100))
    del ids
    assert held() is None


def lists(losses: list[float], ids: list[int] | None) -> tuple[Any, Any]:
    return losses, ids


def tensors(losses: list[float], ids: list[int] | None) -> tuple[Any, Any]:
    import torch

    return torch.tensor(losses), None if ids is None else torch.tensor(ids)


@pytest.mark.parametrize("by", ["sampler", "batch_sampler", "ids"])
@pytest.mark.parametrize("kind", [lists, pytest.param(tensors, marks=pytest.mark.torch)])
def test_later_epochs_use_the_memory_of_earlier_ones(no_collector: None, by: str, kind: Any) -> None:
    places_of_epochs(by, kind, lambda ib: ib.update)


@pytest.mark.torch
def test_later_epochs_of_a_compiled_step_use_the_memory_of_earlier_ones(no_collector: None) -> None:
    import torch

    places_of_epochs("ids", tensors, lambda ib: torch.compile(ib.update, backend="eager"))


def places_of_epochs(by: str, kind: Any, update_of: Any) -> None:
    ib = InfoBatch(SIZE, EPOCHS, seed=1)
    update = update_of(ib)
    places = []
    for _ in range(10):
        if by == "sampler":
            pulled = []
            for i in ib.sampler:
                pulled.append(i)
                if len(pulled) == 100:
                    update(*kind([1 + i / SIZE for i in pulled], None))
                    pulled = []
            if pulled:
                update(*kind([1 + i / SIZE for i in pulled], None))
        else:
            for batch in ib.batch_sampler(100):
                update(*kind([1 + i / SIZE for i in batch], batch if by == "ids" else None))
        places.append(address(ib.plan.ids))
    assert len(set(places)) <= 4, "two plans take turns, and those of full and pruned epochs differ in size"
