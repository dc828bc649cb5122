"""Backends: boundaries that the library of a device works through, here CUDA's kernels on an emulated device
(tests/cuda/sim), behind the wheel's own engine. Runs are the processor's to the bit; what cannot be used is
refused or left alone, with the reason. Each case is a process, which keeps what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_environment("the engine and the kernels are the same everywhere")

PROLOGUE = """
import copy
import infobatch
from infobatch import InfoBatch

def loss_of(id, epoch):
    return (id * 2654435761 % 1000 + 1) / 1000 / (epoch + 1)

def epoch_of(ib, batch=32):
    epoch, seen = ib.epoch, []
    for ids in ib.batch_sampler(batch):
        seen.append((ids, list(ib.update([loss_of(i, epoch) for i in ids], reduction="none"))))
    return seen
"""


def run(program: str, library: str | Path | None) -> str:
    """What the program prints, in a process of its own with this library of CUDA."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    environment.pop("INFOBATCH_CUDA_LIBRARY", None)
    if library is not None:
        environment["INFOBATCH_CUDA_LIBRARY"] = str(library)
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def stand_in(request: pytest.FixtureRequest) -> Path:
    folder: Path | None = request.config.getoption("--programs")
    if folder is None:
        pytest.skip("the C++ programs are not given (--programs build/release/tests)")
    found = folder / "cuda" / "libinfobatch_cuda_stand_in.so"
    assert found.is_file(), f"{found} is built with the C++ tests"
    return found.resolve()


def test_runs_on_a_device_are_the_processors_to_the_bit(stand_in: Path) -> None:
    run(
        """
for options in ({}, {"keep": "exact"}, {"policy": "ucb"}, {"policy": "orderdp", "target_saved": 0.2}):
    home = InfoBatch(700, 8, seed=3, **options)
    away = InfoBatch(700, 8, seed=3, backend="cuda", **options)
    for epoch in range(4):
        assert epoch_of(away) == epoch_of(home), (options, epoch)
        assert memoryview(away.scores).tobytes() == memoryview(home.scores).tobytes()
        assert list(away.plan.ids) == list(home.plan.ids)
    assert home.get_pruned_count() == away.get_pruned_count() > 0
    twin = copy.deepcopy(away)
    assert epoch_of(twin) == epoch_of(away) == epoch_of(home)
""",
        stand_in,
    )


def test_a_state_goes_from_either_to_either(stand_in: Path, tmp_path: Path) -> None:
    run(
        f"""
made = [InfoBatch(500, 8, seed=1, backend=name) for name in ("cpu", "cuda")]
for ib in made:
    for epoch in range(2):
        epoch_of(ib)
    ids = next(iter(ib.batch_sampler(32)))
    ib.update([loss_of(i, 2) for i in ids])
    ib.save({str(tmp_path)!r} + "/" + ib._own["backend"])
for name in ("cpu", "cuda"):
    ways = [InfoBatch(500, 8, seed=1, backend=to) for to in ("cpu", "cuda")]
    for ib in ways:
        ib.load({str(tmp_path)!r} + "/" + name)
    assert epoch_of(ways[0]) == epoch_of(ways[1])
    assert epoch_of(ways[0]) == epoch_of(ways[1])
assert open({str(tmp_path)!r} + "/cpu", "rb").read() == open({str(tmp_path)!r} + "/cuda", "rb").read()
""",
        stand_in,
    )


def test_devices_say_what_there_is(stand_in: Path) -> None:
    printed = run("print(*infobatch.devices(), sep='\\n')", stand_in)
    assert printed.splitlines() == [
        "Device(type='cpu', backend='cpu', library='', reason='')",
        f"Device(type='cuda', backend='cuda', library={str(stand_in)!r}, reason='')",
    ]


def test_a_declared_device_whose_library_is_there_gets_its_backend(stand_in: Path) -> None:
    run(
        """
assert InfoBatch(10, 2, device="cuda:0")._here.session.backend == "cuda"
assert InfoBatch(10, 2, device="cuda", backend="cpu")._here.session.backend is None
assert InfoBatch(10, 2, device="cpu")._here.session.backend is None
assert InfoBatch(10, 2, device="mps")._here.session.backend is None
assert InfoBatch(10, 2)._here.session.backend is None
""",
        stand_in,
    )


def test_without_a_library_a_declared_device_stays_with_the_processor() -> None:
    run(
        """
assert [device.type for device in infobatch.devices()] == ["cpu"]
assert InfoBatch(10, 2, device="cuda")._here.session.backend is None
try:
    InfoBatch(10, 2, backend="cuda")
except ValueError as error:
    assert str(error) == (
        "InfoBatch: backend must be one whose library is installed (cpu), got 'cuda'; "
        "pip install infobatch-cuda"
    ), error
else:
    raise AssertionError
""",
        None,
    )


def test_a_library_that_cannot_be_used_is_told_once_and_the_run_is_unchanged(tmp_path: Path) -> None:
    broken = tmp_path / "libinfobatch_cuda.so"
    broken.write_bytes(b"no library")
    run(
        f"""
import warnings
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    first = InfoBatch(300, 8, device="cuda")
    second = InfoBatch(300, 8, device="cuda", seed=0)
assert len(found) == 1, found
assert found[0].category is infobatch.InfoBatchWarning
assert {str(broken)!r} in str(found[0].message)
assert "stays on the processor" in str(found[0].message)
assert found[0].filename == "<string>"
home = InfoBatch(300, 8, seed=0)
for epoch in range(3):
    assert epoch_of(second) == epoch_of(home)
device = infobatch.devices()[1]
assert (device.type, device.backend, device.library) == ("cuda", "", {str(broken)!r})
assert device.reason
try:
    InfoBatch(10, 2, backend="cuda")
except ValueError as error:
    assert {str(broken)!r} in str(error)
else:
    raise AssertionError
""",
        broken,
    )


def test_backends_that_nobody_knows_are_refused() -> None:
    run(
        """
for wrong, kind, text in (
    ("rocm", ValueError, "InfoBatch: backend must be one whose library is installed (cpu), got 'rocm'"),
    (1, TypeError, "InfoBatch: backend must be a name, got int"),
):
    try:
        InfoBatch(10, 2, backend=wrong)
    except kind as error:
        assert str(error) == text, error
    else:
        raise AssertionError(wrong)
""",
        None,
    )
