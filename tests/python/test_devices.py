"""The cases of device_cases.py, in a process of their own.

A device that was registered with torch stays, and torch takes it for this machine's. Registered late it has
no thread for backward passes, because torch starts those with the first one of a process.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("device_cases.py")
NAMES = [
    node.name
    for node in ast.parse(CASES.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[tree.Element]], str]:
    """What became of the cases, by the names of their functions, and what pytest printed."""
    file = tmp_path_factory.mktemp("devices") / "results.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={file}", str(CASES)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=CASES.parents[2],
    )
    found: dict[str, list[tree.Element]] = {}
    for case in tree.parse(file).getroot().iter("testcase") if file.exists() else ():
        found.setdefault(case.get("name", "").partition("[")[0], []).append(case)
    return found, done.stdout + done.stderr


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_on_a_device(results: tuple[dict[str, list[tree.Element]], str], name: str) -> None:
    found, printed = results
    cases = found.get(name, [])
    assert cases, printed
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    assert not failed, printed
    skipped = [case.find("skipped") for case in cases]
    if all(reason is not None for reason in skipped):
        pytest.skip("; ".join({reason.get("message", "") for reason in skipped if reason is not None}))
