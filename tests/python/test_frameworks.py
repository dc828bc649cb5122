"""Loops of other frameworks: NumPy, JAX on the CPU, and whatever has ``__array__`` or ``__dlpack__``."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
from typing import Any

import pytest
from loops import Numbers, Record, batches_of_rows, nothing_to_warn_of, observed, weights_of

from infobatch import Indexed, InfoBatch

with contextlib.suppress(ImportError):  # every test here is skipped then
    import numpy as np

pytestmark = pytest.mark.numpy


def samples(size: int) -> Any:
    """Inputs [N, 2] and targets [N], different for each sample."""
    x = np.linspace(-1, 1, size)
    return np.stack([x, np.ones_like(x)], 1), 3 * x**2 - 0.5


# --- NumPy


@pytest.mark.parametrize("rows", [False, True], ids=["batches", "rows"])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_numpy_loop_trains_prunes_and_scores_rightly(kind: str, rows: bool) -> None:
    inputs, targets = samples(300)
    ib = InfoBatch(len(inputs), 8, seed=1)
    parameters, record, size = np.zeros(2), Record(), 32
    with nothing_to_warn_of():
        for epoch in range(8):
            weights = weights_of(ib.plan)
            for ids in batches_of_rows(ib.sampler, size) if rows else ib.batch_sampler(size):
                x, y = inputs[ids], targets[ids]
                residuals = x @ parameters - y
                losses = (residuals**2).astype(kind)
                before = losses.copy()
                loss = ib.update(losses)
                w = np.array([weights[i] for i in ids])
                assert isinstance(loss, float)
                assert loss == pytest.approx(float((w * losses.astype("float64")).mean()), rel=1e-5)
                assert (losses == before).all()
                parameters -= 0.1 * (2 * w * residuals) @ x / len(ids)
                record.saw(ids, losses.astype(np.float32).tolist())
            assert ib.epoch == epoch + 1
            record.check(ib)
    assert ib.get_pruned_count() > 100
    if kind != "float16":
        assert np.mean((inputs @ parameters - targets) ** 2) < np.mean(targets**2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "weighted_mean"])
def test_reductions_of_arrays_with_more_dimensions(reduction: str) -> None:
    ib = InfoBatch(64, 8, seed=5)
    rng = np.random.default_rng(1)
    record = Record()
    for _ in range(2):
        weights = weights_of(ib.plan)
        for ids in ib.batch_sampler(16):
            losses = rng.random((5, 3, len(ids))).transpose(2, 0, 1)  # not contiguous
            w = np.array([weights[i] for i in ids])[:, None, None]
            expected: Any = {
                "mean": (losses * w).mean(),
                "sum": (losses * w).sum(),
                "none": losses * w,
                "weighted_mean": (losses * w).sum() / (w * np.ones_like(losses)).sum(),
            }[reduction]
            found = ib.update(losses, reduction=reduction)
            assert np.allclose(found, expected)
            if reduction == "none":
                assert found.dtype == np.float64
            record.saw(ids, losses.mean((1, 2)).astype(np.float32).tolist())
    record.check(ib)


def test_ids_as_an_array_weigh_and_score_in_any_order() -> None:
    inputs, targets = samples(100)
    ib = InfoBatch(100, 8, seed=1)
    rng, record = np.random.default_rng(2), Record()
    for epoch in range(3):
        weights = weights_of(ib.plan)
        for batch in ib.batch_sampler(10):
            for kind in ("int64", "int32", "uint16"):
                ids = rng.permutation(batch)[:6].astype(kind)
                losses = targets[ids] ** 2 + inputs[ids, 0] + epoch
                assert ib.get_weights(ids).tolist() == [weights[i] for i in ids.tolist()]
                assert ib.observe(losses, ids).tolist() == [weights[i] for i in ids.tolist()]
                record.saw(ids.tolist(), losses.astype(np.float32).tolist())
        ib.set_epoch(epoch + 1)
    record.check(ib)


def test_what_is_wrong_with_arrays_is_refused_in_words() -> None:
    ib = InfoBatch(100, 8)
    next(iter(ib.batch_sampler(10)))
    with pytest.raises(ValueError, match=r"reduction='none'.*scale_gradient"):
        ib.update(np.float32(1.0))
    for kind in ("int64", "bool", "complex64", "U3"):
        with pytest.raises(ValueError, match="losses must be floating"):
            ib.update(np.ones(10).astype(kind))
    with pytest.raises(ValueError, match="ids must be"):
        ib.update(np.ones(2), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="ids must be"):
        ib.update(np.ones(2), np.array([[0], [1]]))
    with pytest.raises(ValueError, match="ids must be one for each of 2"):
        ib.update(np.ones(2), np.array([0]))
    with pytest.raises(IndexError, match="100"):
        ib.update(np.ones(2), np.array([0, 100]))
    ib.update(np.ones(10))


def test_losses_too_large_for_float32_count_as_not_finite() -> None:
    ib = InfoBatch(10, 8)
    next(iter(ib.batch_sampler(10)))
    with np.errstate(all="raise"):
        ib.update(np.full(10, 1e300))
    with pytest.warns(UserWarning, match="not finite|NaN"):
        len(ib.sampler)
    assert observed(ib) == {}


def test_views_are_arrays_that_cannot_be_written_and_hold_their_run() -> None:
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from infobatch import InfoBatch
ib = InfoBatch(50, 8, columns={"class": np.arange(50, dtype=np.int16), "half": np.ones(50, np.float16)})
scores, classes, half = ib.scores, ib.column("class"), ib.column("half")
address = scores.ctypes.data
for ids in ib.batch_sampler(10):
    ib.update(np.array(ids) / 10)
len(ib.sampler)
assert ib.scores.ctypes.data == address
ids = np.asarray(ib.plan.ids); weights = np.asarray(ib.plan.weights)
assert (ids.dtype, weights.dtype) == (np.int64, np.float32)
before = ids.copy(), weights.copy()
del ib
for _ in range(20):
    list(InfoBatch(50, 8).sampler)
assert np.allclose(scores, np.arange(50) / 10)
assert classes.dtype == np.int16 and (classes == np.arange(50)).all()
assert half.dtype == np.float16 and (half == 1).all()
assert (ids == before[0]).all() and (weights == before[1]).all()
for view in (scores, classes, half, ids, weights):
    try:
        view[0] = 3
    except ValueError:
        pass
    else:
        raise AssertionError(view)
print("right")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


def test_indexed_gives_ids_also_without_torch() -> None:
    data = Indexed(InfoBatch(Numbers(10), 8))
    assert [data[i] for i in (3, 5)] == [(3, 3), (5, 5)]
    assert (len(data), data.note) == (10, Numbers.note)
    assert copy.copy(data)[2] == (2, 2)


# --- JAX


@pytest.mark.jax
def test_a_jax_loop_weighs_by_itself_and_scores_rightly() -> None:
    """jax.grad of the weighted loss needs the weights before the step: `get_weights`, then `observe`."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    inputs, targets = samples(200)
    inputs, targets = jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32)

    def losses_of(parameters: Any, x: Any, y: Any) -> Any:
        return (x @ parameters - y) ** 2

    @jax.jit
    def step(parameters: Any, x: Any, y: Any, w: Any) -> Any:
        def weighted(p: Any) -> Any:
            losses = losses_of(p, x, y)
            return (w * losses).mean(), losses

        gradient, losses = jax.grad(weighted, has_aux=True)(parameters)
        return parameters - 0.1 * gradient, losses

    ib = InfoBatch(200, 6, keep="exact", whole_batches=20, seed=1)  # one shape: one compilation
    parameters, record = jnp.zeros(2), Record()
    with nothing_to_warn_of():
        for epoch in range(6):
            weights = weights_of(ib.plan)
            for ids in ib.batch_sampler(20):
                numbers = jnp.asarray(ids)
                w = jnp.asarray(ib.get_weights(ids))
                assert w.tolist() == [weights[i] for i in ids]
                parameters, losses = step(parameters, inputs[numbers], targets[numbers], w)
                assert ib.observe(losses).tolist() == w.tolist()
                record.saw(ids, losses.tolist())
            assert ib.epoch == epoch + 1
            record.check(ib)
    assert ib.get_pruned_count() > 100
    assert step._cache_size() == 1
    assert losses_of(parameters, inputs, targets).mean() < (targets**2).mean()


@pytest.mark.jax
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_losses_of_jax_are_recorded_whatever_their_dtype(kind: str) -> None:
    import jax.numpy as jnp

    ib = InfoBatch(60, 8, seed=1)
    record = Record()
    for epoch in range(2):
        weights = weights_of(ib.plan)
        for ids in ib.batch_sampler(20):
            losses = (jnp.asarray(ids) / 64 + epoch).astype(kind)
            loss = ib.update(losses)
            values = losses.astype(jnp.float32).tolist()
            w = [weights[i] for i in ids]
            assert loss == pytest.approx(sum(a * b for a, b in zip(w, values, strict=True)) / len(ids))
            record.saw(ids, values)
    record.check(ib)


# --- anything


class WithArray:
    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values if dtype is None else self.values.astype(dtype)


class WithDlpack:
    """Only what the protocol asks for."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("wrapper", [WithArray, WithDlpack, list, tuple, memoryview])
def test_losses_may_be_anything_that_shows_an_array(wrapper: Any) -> None:
    ib = InfoBatch(100, 8, seed=1)
    record = Record()
    for epoch in range(3):
        weights = weights_of(ib.plan)
        for ids in ib.batch_sampler(10):
            losses = (np.array(ids) / 100 + epoch).astype(np.float32)
            expected = float(np.mean([weights[i] * x for i, x in zip(ids, losses, strict=True)]))
            assert ib.update(wrapper(losses)) == pytest.approx(expected, rel=1e-6)
            record.saw(ids, losses.tolist())
        record.check(ib)


@pytest.mark.torch
def test_tensors_and_arrays_may_take_turns() -> None:
    import torch

    ib = InfoBatch(100, 8, seed=1)
    record = Record()
    for epoch in range(3):
        for step, ids in enumerate(ib.batch_sampler(10)):
            losses = (np.array(ids) / 100 + epoch).astype(np.float32)
            forms: list[Any] = [losses, torch.from_numpy(losses), losses.tolist(), WithArray(losses)]
            ib.update(forms[step % 4])
            record.saw(ids, losses.tolist())
        record.check(ib)
