#!/usr/bin/env python3
"""Checks that a Linux wheel is what users are promised; runs in .venv-wheels.

Usage: scripts/check_wheel.py WHEEL. What is checked: only the package, its library and the metadata are
in it; it has less than 5 MB; the library exports ib_* alone and needs glibc alone; auditwheel finds that
it runs where its name says. Prints one line, or what is wrong; exit status 1 when something is.
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

LARGEST = 5_000_000
CONTENTS = re.compile(
    r"infobatch/([a-z_0-9]+/)*([a-z_0-9]+\.pyi?|py\.typed)"
    r"|infobatch/libinfobatch\.so"
    r"|infobatch-[0-9.]+\.dist-info/(METADATA|RECORD|WHEEL|licenses/LICENSE)"
)
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
    found = re.search(r"consistent with the\s+following platform tag:\s+\"(\w+)\"", shown.stdout)
    return found.group(1) if found else (shown.stdout + shown.stderr).strip()


def main() -> int:
    wheel = Path(sys.argv[1])
    problems = []
    size = wheel.stat().st_size
    if size >= LARGEST:
        problems.append(f"{size} bytes, at most {LARGEST} are promised")
    with zipfile.ZipFile(wheel) as archive:
        problems += [f"{name} does not belong into it" for name in archive.namelist() if not CONTENTS.fullmatch(name)]
        library = ELFFile(BytesIO(archive.read("infobatch/libinfobatch.so")))
    names = exported(library)
    if not names:
        problems.append("the library exports nothing")
    problems += [f"the library exports {name}" for name in names if not name.startswith("ib_")]
    libraries = needed(library)
    problems += [f"the library needs {name}" for name in libraries if not NEEDED.fullmatch(name)]
    allowed = manylinux(wheel)
    glibc = re.fullmatch(r"manylinux_2_(\d+)_\w+", allowed)
    promised = re.search(r"manylinux_2_(\d+)_", wheel.name)
    if not glibc or not promised or int(glibc.group(1)) > int(promised.group(1)):
        problems.append(f"auditwheel does not agree with the name: {allowed}")
    for problem in problems:
        print(f"{wheel.name}: {problem}", file=sys.stderr)
    if not problems:
        print(f"{wheel.name}: {size / 1e6:.2f} MB, exports {len(names)} ib_*, needs {' '.join(libraries)}, auditwheel: {allowed}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
