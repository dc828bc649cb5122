#!/usr/bin/env python3
"""Checks that a folder includes only the layers below it (see LAYERS), and nothing relatively.

Usage: scripts/check_layers.py [root]. Prints every violation; exit status 1 when there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

TORCH = ("torch", "ATen", "c10", "caffe2")
CUDA = ("cuda", "cub", "thrust", "nvtx3")

# Folder -> (our folders it may include, outside prefixes it must not include).
LAYERS = {
    "infobatch": ({"infobatch"}, TORCH + CUDA),
    "cuda_kernels": ({"infobatch", "cuda_kernels"}, TORCH),
    "samplers": ({"infobatch", "cuda_kernels", "samplers"}, ()),
    "python_bindings_optional": ({"infobatch", "cuda_kernels", "python_bindings_optional"}, TORCH),
    "examples": ({"infobatch", "samplers", "examples"}, ()),
    "bench": ({"infobatch", "cuda_kernels", "samplers", "bench"}, ()),
    "tests/engine": ({"infobatch", "tests"}, TORCH + CUDA),
    "tests/session": ({"infobatch", "tests"}, TORCH + CUDA),
    "tests/failures": ({"infobatch", "tests"}, TORCH + CUDA),
    "tests/kernels": ({"infobatch", "cuda_kernels", "tests"}, TORCH),
    "tests/fuzz": ({"infobatch", "tests"}, TORCH + CUDA),
    "tests/c_api": ({"infobatch", "tests"}, TORCH + CUDA),
}
OURS = {folder.split("/")[0] for folder in LAYERS} | {"tests"}
SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def violations(root: Path, path: Path):
    """Yields 'line: reason' for each include of `path` that its layer forbids."""
    name = path.as_posix()
    layer = next((folder for folder in LAYERS if name.startswith(folder + "/")), None)
    for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, target = match.groups()
        folder = target.split("/")[0] if "/" in target else ""
        package = re.split(r"[/_.]", target)[0]  # <cuda_runtime.h> and <cuda/std/array> are both cuda
        if quote == '"' or target.startswith("."):
            yield f"{number}: include <folder/file> from the repository root, got \"{target}\""
        if layer is None:
            continue
        allowed, forbidden = LAYERS[layer]
        if folder in OURS:
            if folder not in allowed:
                yield f"{number}: {layer}/ must not include {folder}/, got <{target}>"
        elif package in forbidden:
            yield f"{number}: {layer}/ must not use {package}, got <{target}>"


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")
    paths = [Path(name) for name in listing if Path(name).suffix in SUFFIXES and (root / name).is_file()]
    if not paths:
        print("check_layers: no source file found", file=sys.stderr)
        return 1
    failures = 0
    for path in sorted(paths):
        for text in violations(root, path):
            print(f"{path}:{text}")
            failures += 1
    print(f"check_layers: {len(paths)} files, {failures} violations")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
