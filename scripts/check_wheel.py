#!/usr/bin/env python3
"""Checks that a Linux wheel is what users are promised; runs in .venv-wheels.

Usage: scripts/check_wheel.py WHEEL, of infobatch or infobatch-cuda. What is checked: only the package, its
library and the metadata are in it; it has less than 5 MB (30 MB with CUDA); the library exports ib_* alone
(CUDA's its one function) and needs glibc alone (CUDA's libgcc, too); auditwheel finds that it runs where its
name says. Prints one line, or what is wrong; exit status 1 when something is.
"""

import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

# Package -> bytes at most, its other files, symbols of its library, what that needs beside glibc.
PACKAGES = {
    "infobatch": (5_000_000, r"([a-z_0-9]+/)*([a-z_0-9]+\.pyi?|py\.typed)", r"ib_\w+", ()),
    "infobatch_cuda": (30_000_000, r"__init__\.py", r"infobatch_backend", ("libgcc_s.so.1",)),
}
METADATA = r"-[0-9.]+\.dist-info/(METADATA|RECORD|WHEEL|licenses/LICENSE)"
NEEDED = re.compile(r"(libc|libm|libdl|libpthread|librt|ld-linux[a-z0-9_-]*)\.so\.\d+")


def exported(library: ELFFile) -> list:
    """Names of the symbols that `library` defines for others."""
    table = library.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    return [
        symbol.name
        for symbol in table.iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF"
        and symbol["st_info"]["bind"] != "STB_LOCAL"
        and symbol["st_other"]["visibility"] in ("STV_DEFAULT", "STV_PROTECTED")
    ]


def needed(library: ELFFile) -> list:
    """Names of the libraries that `library` asks the loader for."""
    section = library.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    return [tag.needed for tag in section.iter_tags("DT_NEEDED")]


def manylinux(wheel: Path) -> str:
    """The oldest manylinux tag that auditwheel allows `wheel`, as manylinux_2_17_x86_64."""
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)],
        capture_output=True, text=True,
    )
    report = " ".join(shown.stdout.split())  # it breaks its lines
    found = re.search(r"consistent with the following platform tag: \"(\w+)\"", report)
    return found.group(1) if found else (shown.stdout + shown.stderr).strip()


def main() -> int:
    wheel = Path(sys.argv[1])
    package = wheel.name.split("-")[0]
    largest, files, symbols, others = PACKAGES[package]
    contents = re.compile(rf"{package}/({files}|lib{package}\.so)|{package}{METADATA}")
    problems = []
    size = wheel.stat().st_size
    if size >= largest:
        problems.append(f"{size} bytes, at most {largest} are promised")
    with zipfile.ZipFile(wheel) as archive:
        problems += [f"{name} does not belong into it" for name in archive.namelist() if not contents.fullmatch(name)]
        library = ELFFile(BytesIO(archive.read(f"{package}/lib{package}.so")))
    names = exported(library)
    if not names:
        problems.append("the library exports nothing")
    problems += [f"the library exports {name}" for name in names if not re.fullmatch(symbols, name)]
    libraries = needed(library)
    problems += [f"the library needs {name}" for name in libraries if not NEEDED.fullmatch(name) and name not in others]
    allowed = manylinux(wheel)
    glibc = re.fullmatch(r"manylinux_2_(\d+)_\w+", allowed)
    promised = re.search(r"manylinux_2_(\d+)_", wheel.name)
    if not glibc or not promised or int(glibc.group(1)) > int(promised.group(1)):
        problems.append(f"auditwheel does not agree with the name: {allowed}")
    for problem in problems:
        print(f"{wheel.name}: {problem}", file=sys.stderr)
    if not problems:
        shown = names[0] if len(names) == 1 else f"{len(names)} ib_*"
        print(f"{wheel.name}: {size / 1e6:.2f} MB, exports {shown}, needs {' '.join(libraries)}, auditwheel: {allowed}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
