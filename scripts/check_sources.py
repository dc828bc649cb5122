#!/usr/bin/env python3
"""Checks that every source file is named in the CMakeLists.txt that is responsible for it.

Source lists are explicit, so a file that nobody lists is not compiled, and a test in it never runs.

Usage: scripts/check_sources.py [root]. Prints every such file; exit status 1 when there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

SUFFIXES = {".c", ".cpp", ".cu"}


def responsible(root: Path, source: Path) -> Path:
    """The nearest folder above `source` that has a CMakeLists.txt."""
    return next(folder for folder in source.parents if (root / folder / "CMakeLists.txt").is_file())


def listed_words(root: Path, folder: Path) -> list:
    """The words of the CMakeLists.txt of `folder` and of the folders right below it."""
    texts = [root / folder / "CMakeLists.txt", *sorted((root / folder).glob("*/CMakeLists.txt"))]
    return [word for text in texts for word in re.findall(r"[\w./+-]+", text.read_text(encoding="utf-8"))]


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")
    sources = [Path(name) for name in listing if Path(name).suffix in SUFFIXES and (root / name).is_file()]
    missing = []
    for source in sorted(sources):
        folder = responsible(root, source)
        name = source.relative_to(folder).as_posix()
        if not any(word in (name, "../" + name) for word in listed_words(root, folder)):
            missing.append(f"{source}: not listed in {folder}/CMakeLists.txt")
    print("\n".join(missing + [f"check_sources: {len(sources)} files, {len(missing)} not listed"]))
    return 1 if missing or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
