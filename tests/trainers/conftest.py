"""What tests of trainers share: one thread a process, so that ranks do not wait for each other."""

import os

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when torch is loaded, by ranks and examples, too


def pytest_configure(config: pytest.Config) -> None:
    import torch

    torch.set_num_threads(1)
