"""What all Python tests share: their options, and tests that need what may be absent."""

import importlib.util
import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when torch is loaded; processes side by side spin for each other
# Inductor would compile a program and load torch once more to find out which vectors there are.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--official",
        metavar="PATH",
        type=Path,
        help="folder of a checkout of the official InfoBatch package, to compare with",
    )
    parser.addoption(
        "--programs",
        metavar="PATH",
        type=Path,
        help="folder of the C++ tests' programs, to exchange states with (build/release/tests)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: needs torch; skipped where it is not installed")
    config.addinivalue_line("markers", "numpy: needs NumPy; skipped where it is not installed")
    config.addinivalue_line("markers", "xdist_group: tests of one process, where pytest-xdist is")
    config.addinivalue_line(
        "markers",
        "one_environment(reason): what it notices is the same under every Python and beside every torch, or"
        " another test notices it; `make test` runs it, FULL=1 make test-wheels too (tests/README.md)",
    )
    config.addinivalue_line(
        "markers", "jax: needs JAX; comes last, for a process with its threads may not fork"
    )
    folder = config.getoption("--official")
    if folder is not None and not (folder / "infobatch").is_dir():
        raise pytest.UsageError(f"--official: {folder} must be a folder that holds infobatch/")
    programs = config.getoption("--programs")
    if programs is not None and not (programs / "infobatch_python_exchange").is_file():
        raise pytest.UsageError(
            f"--programs: {programs} must be a folder that holds infobatch_python_exchange"
        )


# Whose tests start processes of their own and wait for them: each may run beside any other.
APART = ("test_ranks.py", "test_examples.py")
# Files that take longest as a whole: they begin first, so that none is left over at the end.
LONG = ("test_training.py", "test_resume.py", "test_loaders.py", "test_compile.py", "test_package.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # JAX starts threads, beside which forks are warned of: it comes last.
    def turn(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.name
        behind = LONG.index(name) if name in LONG else len(LONG) + (name in APART)
        return item.get_closest_marker("jax") is not None, behind

    items.sort(key=turn)
    for item in items:
        for marker in item.iter_markers("one_environment"):
            if len(marker.args) != 1 or marker.kwargs:
                raise pytest.UsageError(f"{item.nodeid}: one_environment must have a reason")
    # In parallel (pytest-xdist, --dist loadgroup) the tests of another file stay in one process.
    for item in items:
        if item.get_closest_marker("jax"):
            item.add_marker(pytest.mark.xdist_group("jax"))
        elif item.path.name not in APART:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    for name in ("torch", "numpy", "jax"):
        if importlib.util.find_spec(name) is None:
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


@pytest.fixture
def official(request: pytest.FixtureRequest) -> Path:
    """Folder of the official package's checkout; the test is skipped where none is given."""
    folder: Path | None = request.config.getoption("--official")
    if folder is None:
        pytest.skip("the official package is not given (--official PATH, OFFICIAL=PATH make test)")
    return folder.resolve()


@pytest.fixture
def exchange(request: pytest.FixtureRequest) -> Path:
    """The C++ program that exchanges states; the test is skipped where none is given."""
    folder: Path | None = request.config.getoption("--programs")
    if folder is None:
        pytest.skip("the C++ programs are not given (--programs build/release/tests)")
    return folder.resolve() / "infobatch_python_exchange"
