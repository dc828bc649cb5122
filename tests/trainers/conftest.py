"""What tests of trainers share: one thread a process, so that ranks do not wait for each other; groups."""

import os

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when torch is loaded, by ranks and examples, too


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "xdist_group: tests of one process, where pytest-xdist is")
    if config.getoption("numprocesses", None):
        return  # tests run in processes of pytest-xdist, which come here, too
    import torch

    torch.set_num_threads(1)


# Files whose programs come from the same server (processes.py), so that each is started once. The longest
# group is first.
GROUPS = (("test_lightning.py", "test_trainer_examples.py"), ("test_transformers.py", "test_accelerate.py"))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for group in GROUPS:
            if item.path.name in group:
                item.add_marker(pytest.mark.xdist_group(group[0]))
