#!/usr/bin/env python3
"""Tries the wheels: the one file of this machine under several Pythons, beside several releases of torch.

Usage: scripts/test_wheels.py [--full]. Default: four pairs that cover every Python and every torch;
--full, or FULL=1 in the environment: all of them. A Python is found by its name or among pyenv's; one
that is absent is reported and left out, but one pair at least has to run. Environments are made in
build/wheel-tests and deleted afterwards, because a torch takes 5 GB; with twice that free the next one
is installed while the tests run in the present one.

Tests that are marked one_environment (tests/README.md) are left out, unless all pairs are asked for:
make test runs them.

Before that the C test runs on the library of each wheel (scripts/test_c_api.sh).

A pair in which scripts/test_python.sh has passed all tests, with this very wheel and these very tests, is
not tried twice. It says so by

       scripts/test_wheels.py --tried <python> <results>

which notes both in build/wheel-tests-tried.json; <results> is the JUnit file of that run.

The first environment may be made ahead, beside something else, once there is the wheel of this machine:

       scripts/test_wheels.py --begin

Prints a table; also build/wheel-tests.json, and build/python-test-results-*.xml for each run (JUnit).
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as tree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
TESTS = Path("tests/python")
PROCESSORS = ("x86_64", "aarch64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TORCHES = ("2.7.0", "2.11.0", "2.15.0")
# The next environment is made while one is in use: a torch takes as long as the tests beside another.
PAIRS = (("3.10", "2.7.0"), ("3.11", "2.11.0"), ("3.13", "2.15.0"), ("3.12", None))
ALL_PAIRS = tuple((python, torch) for python in PYTHONS for torch in (None, *TORCHES))
IN_PARALLEL = ("-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder")
ELSEWHERE = ("-m", "not one_environment")
TWO_ENVIRONMENTS = 12_000_000_000  # bytes of disk
SKIPPED = 77
FOLDER = BUILD / "wheel-tests"
TRIED = BUILD / "wheel-tests-tried.json"


def say(text: str) -> None:
    print(f"test-wheels: {text}", flush=True)


def environment() -> dict:
    """The environment of the tests: what a user has set up for Python programs stays out of it."""
    mine = {"PYTHONPATH", "PYTHONHOME", "INFOBATCH_LIBRARY", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in mine}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def find_python(version: str):
    """Path of a Python of this version that works and can make environments, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = sorted(
        pyenv.glob(f"versions/{version}.*/bin/python"),
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])],
        reverse=True,
    )
    program = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in (f"python{version}", *map(str, installed)):
        try:
            answer = subprocess.run([candidate, "-c", program], capture_output=True, text=True)
        except OSError:
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    return None


def counts(results: Path) -> dict:
    """Passed, failed and skipped tests of a JUnit file; one failure where there is none."""
    try:
        suites = list(tree.parse(results).getroot().iter("testsuite"))
    except (OSError, tree.ParseError):
        return {"passed": 0, "failed": 1, "skipped": 0}
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def try_c_api(processor: str) -> dict:
    """Runs the C test on the library of one wheel."""
    status = subprocess.run(["scripts/test_c_api.sh", processor]).returncode
    suite = tree.Element("testsuite", name="c_api", tests="1", failures="0", errors="0", skipped="0")
    case = tree.SubElement(suite, "testcase", name=f"the C test on the library of the {processor} wheel")
    if status == SKIPPED:
        suite.set("skipped", "1")
        tree.SubElement(case, "skipped", message="no emulator")
    elif status:
        suite.set("failures", "1")
        tree.SubElement(case, "failure", message=f"exit status {status}")
    results = BUILD / f"python-test-results-c-api-{processor}.xml"
    tree.ElementTree(suite).write(results)
    return {"processor": processor, **counts(results)}


def install(python: Path, torch, wheel: Path) -> tuple:
    """Installs what a run needs; returns the reason where that is not possible, and what pip says of it."""
    requirements = TESTS / ("requirements-torch.txt" if torch else "requirements.txt")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    done = subprocess.run(
        [*command, *([f"torch=={torch}"] if torch else []), str(wheel)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
    )
    if done.returncode == 0:
        return None, ""
    if torch and f"No matching distribution found for torch=={torch}" in done.stdout:
        return f"there is no torch {torch} for this Python", ""
    return "FAILED: pip could not install what it needs", done.stdout


def contents(torch, wheel: Path) -> str:
    """What decides an environment besides its Python: its packages, by their files."""
    files = (wheel, TESTS / "requirements.txt", TESTS / "requirements-torch.txt")
    return f"torch {torch} " + " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def version_in(python: Path, name: str) -> str:
    """Version of an installed distribution, "none" without it."""
    program = f"from importlib.metadata import version; print(version('{name}'))"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, env=environment())
    return done.stdout.strip() if done.returncode == 0 else "none"


def digest(wheel: Path) -> str:
    """What decides a run besides the environment: the wheel, and the files of the tests and examples."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", str(TESTS), "examples", "docs", "README.md"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")
    total = hashlib.sha256()
    for path in (wheel, *(Path(name) for name in sorted(files) if name)):
        if path.is_file():
            total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def note_tried(python: Path, results: Path, wheel: Path) -> None:
    """Notes that all tests have passed in the environment of `python`."""
    program = "import platform; print(platform.python_version())"
    version = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    row = {"python": version, "torch": version_in(python, "torch"), "numpy": version_in(python, "numpy")}
    sum_of_run = digest(wheel)
    earlier = json.loads(TRIED.read_text()) if TRIED.is_file() else []
    kept = [other for other in earlier if other["digest"] == sum_of_run and other["results"] != str(results)]
    TRIED.write_text(json.dumps([*kept, {**row, "results": str(results), "digest": sum_of_run}], indent=2) + "\n")


def tried_already(version: str, torch, wheel: Path):
    """The row of a pair that has passed all tests elsewhere, or None."""
    if not TRIED.is_file():
        return None
    for row in json.loads(TRIED.read_text()):
        same = row["python"].startswith(f"{version}.") and row["torch"].split("+")[0] == (torch or "none")
        counted = counts(Path(row["results"]))
        if same and row["digest"] == digest(wheel) and counted["passed"] and not counted["failed"]:
            say(f"Python {row['python']}, torch {row['torch']}: all tests have passed already, {row['results']}")
            return {key: row[key] for key in ("python", "torch", "numpy")} | {"wheel": wheel.name, **counted, "note": ""}
    return None


class Pair:
    """A Python and a torch: tried elsewhere already, left out, or with an environment of its own."""

    def __init__(self, version: str, torch, wheel: Path) -> None:
        self.version, self.torch, self.wheel = version, torch, wheel
        self.folder = FOLDER / f"{version}-torch-{torch or 'none'}"
        self.python = self.folder / "bin" / "python"
        self.row = tried_already(version, torch, wheel)
        self.interpreter = None if self.row else find_python(version)
        self.reason, self.complaints = None, ""
        self.making = None
        if not self.row:
            self.row = {"python": version, "torch": torch or "none", "numpy": "-", "wheel": wheel.name}
            self.row.update(passed=0, failed=0, skipped=0, note="")
            if self.interpreter is None:
                self.row["note"] = f"left out: no Python {version} on this machine"

    def begin(self) -> None:
        """Begins to make the environment, where the pair needs one; says nothing."""
        if self.interpreter and not self.making:
            self.making = threading.Thread(target=self._make)
            self.making.start()

    def _make(self) -> None:
        made, wanted = self.folder / "made", contents(self.torch, self.wheel)
        if made.is_file() and made.read_text() == wanted:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.reason = "FAILED: no virtual environment can be made"
        if subprocess.run([self.interpreter, "-m", "venv", str(self.folder)], env=environment()).returncode == 0:
            self.reason, self.complaints = install(self.python, self.torch, self.wheel)
        if not self.reason:
            made.write_text(wanted)

    def run(self, meanwhile, full: bool) -> dict:
        """Runs the Python tests in the environment; calls `meanwhile` when that is complete."""
        if not self.interpreter:
            return self.row
        say(f"Python {self.version}, torch {self.row['torch']}: environment of its own")
        self.begin()
        self.making.join()
        if self.reason:
            print(self.complaints, end="", file=sys.stderr)
            failed = int(self.reason.startswith("FAILED"))
            note = self.reason if failed else f"left out: {self.reason}"
            return {**self.row, "failed": failed, "note": note}
        meanwhile()
        self.row["python"] = subprocess.run(
            [str(self.python), "-c", "import platform; print(platform.python_version())"],
            capture_output=True, text=True, check=True, env=environment(),
        ).stdout.strip()
        self.row["torch"], self.row["numpy"] = version_in(self.python, "torch"), version_in(self.python, "numpy")
        results = BUILD / f"python-test-results-{self.version}-torch-{self.torch or 'none'}.xml"
        official = os.environ.get("OFFICIAL")
        subprocess.run(
            [str(self.python), "-m", "pytest", "-q", *IN_PARALLEL, *(() if full else ELSEWHERE),
             f"--junitxml={results}", *(["--official", official] if official else []), str(TESTS)],
            env=environment(),
        )
        return {**self.row, **counts(results)}

    def remove(self) -> None:
        if self.making:
            self.making.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def try_pairs(pairs: tuple, wheel: Path, full: bool) -> list:
    """Tries one pair after the other; makes the environment of the next one meanwhile, where there is room."""
    rows, left = [], [Pair(python, torch, wheel) for python, torch in pairs]
    for folder in set(FOLDER.glob("*")) - {pair.folder for pair in left}:
        shutil.rmtree(folder, ignore_errors=True)

    def meanwhile() -> None:
        following = next((pair for pair in left if pair.interpreter), None)
        # Its own 5 GB are taken from what is free, and pip unpacks what it loads before it installs that.
        if following and shutil.disk_usage(BUILD).free > TWO_ENVIRONMENTS:
            following.begin()

    try:
        while left:
            pair = left.pop(0)
            try:
                rows.append(pair.run(meanwhile, full))
            finally:
                pair.remove()
    finally:
        for pair in left:
            pair.remove()
    return rows


def begin(pairs: tuple, wheel: Path) -> None:
    """Makes the first environment that try_pairs will need. What fails is tried there once more."""
    needing = (pair for pair in (Pair(python, torch, wheel) for python, torch in pairs) if pair.interpreter)
    if pair := next(needing, None):
        pair.begin()
        pair.making.join()
        say(f"Python {pair.version}, torch {pair.row['torch']}: {pair.reason or 'its environment is made'}")


def print_table(rows: list) -> None:
    """The rows with aligned columns."""
    lines = [("Python", "torch", "NumPy", "passed", "failed", "skipped", "wheel")]
    for row in rows:
        numbers = [str(row[key]) for key in ("passed", "failed", "skipped")]
        lines.append((row["python"], row["torch"], row["numpy"], *numbers, row["note"] or row["wheel"]))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def main() -> int:
    os.chdir(ROOT)
    full = "--full" in sys.argv[1:] or os.environ.get("FULL", "") not in ("", "0")
    wheels = list(BUILD.glob(f"wheels/infobatch-*_{platform.machine()}.whl"))
    if len(wheels) != 1:
        say(f"build/wheels holds {len(wheels)} wheels for {platform.machine()}; scripts/wheels.sh makes the one")
        return 1
    if sys.argv[1:2] == ["--tried"]:
        note_tried(Path(sys.argv[2]), Path(sys.argv[3]), wheels[0])
        return 0
    if sys.argv[1:2] == ["--begin"]:
        begin(ALL_PAIRS if full else PAIRS, wheels[0])
        return 0
    emulated = [try_c_api(processor) for processor in PROCESSORS]
    rows = try_pairs(ALL_PAIRS if full else PAIRS, wheels[0], full)
    print_table(rows)
    (BUILD / "wheel-tests.json").write_text(json.dumps({"c_api": emulated, "pairs": rows}, indent=2) + "\n")
    failed = sum(row["failed"] for row in emulated + rows)
    ran = sum(1 for row in rows if row["passed"])
    say(f"{ran} of {len(rows)} pairs ran, {failed} failures; build/wheel-tests.json")
    return 0 if ran and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
