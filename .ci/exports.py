#!/usr/bin/env python3
"""Compares the symbols that the libraries export with the lists of this folder.

Usage: .ci/exports.py [--renew] [libinfobatch.so]. Default: that of `make test`, or of `.ci/engine.sh release`;
where libinfobatch_samplers.so lies in the same build, that one as well.

exports-c.txt lists the C interface, exports-cpp.txt the C++ interface, demangled; both exactly. A C++ symbol
must also be one of a header that is installed: every class and namespace around it is defined there, and its
name stands there. What the compiler makes of the standard library's templates is not listed.
exports-samplers.txt lists what libinfobatch_samplers.so defines itself, and so neither what the compiler makes
of torch's templates nor what is inline.

--renew writes the lists anew: look at what `git diff .ci` then shows. A name that is gone, or has other
parameters, breaks programs that are linked with the library.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = {"C": ROOT / ".ci/exports-c.txt", "C++": ROOT / ".ci/exports-cpp.txt"}
SAMPLERS = ROOT / ".ci/exports-samplers.txt"
LIBRARIES = ("build/release/infobatch/libinfobatch.so", "build/engine/infobatch/libinfobatch.so")
STANDARD = re.compile(r"(?:(?:typeinfo|typeinfo name|vtable|VTT|guard variable) for )?(?:std|__gnu_cxx)::")
OF_CLASS = re.compile(r"^(?:typeinfo|typeinfo name|vtable|VTT|guard variable) for ")
NAMES = re.compile(r"infobatch::[\w:~]+")


def defined(library: Path, kinds: str = "[A-Za-z]") -> set:
    """The names that `library` defines for others, of nm's `kinds`."""
    lines = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--demangle", "--format=posix", str(library)],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    # "name T address size"; a C++ name has blanks of its own.
    found = [re.fullmatch(rf"(.*) {kinds} [0-9a-f]+( [0-9a-f]+)?", line) for line in lines]
    return {match.group(1).replace("[abi:cxx11]", "") for match in found if match}


def exported(library: Path) -> dict:
    """The names that `library` defines for others, by language."""
    names = defined(library)
    plain = {name for name in names if re.fullmatch(r"\w+", name)}
    return {"C": plain, "C++": {name for name in names - plain if not standard(name)}}


def standard(name: str) -> bool:
    """Whether the symbol is the standard library's own, instantiated here."""
    if OF_CLASS.match(name):
        return bool(STANDARD.match(name))
    # "void std::vector<...>::f(...)": what comes before the first infobatch:: that no bracket encloses.
    depth, flat = 0, []
    for character in name:
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
        if depth == 0:
            flat.append(character)
    return "infobatch::" not in "".join(flat) and ("std::" in "".join(flat) or "__gnu_cxx::" in "".join(flat))


def public_headers() -> str:
    """The text of the headers that are installed, without comments."""
    listed = (ROOT / "cmake/InfoBatchInstall.cmake").read_text(encoding="utf-8")
    block = re.search(r"set\(infobatch_public_headers\s+([^)]*)\)", listed)
    assert block, "cmake/InfoBatchInstall.cmake lists no infobatch_public_headers"
    text = "\n".join((ROOT / "infobatch" / name).read_text(encoding="utf-8") for name in block.group(1).split())
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def not_public(name: str, headers: str):
    """Why a C++ symbol does not belong to the public headers, or None."""
    found = NAMES.search(name)
    if not found:
        return "lies outside the namespace infobatch"
    *scopes, last = found.group(0).split("::")
    if OF_CLASS.match(name):
        scopes.append(last)
    elif not re.search(rf"\b{re.escape(last.lstrip('~'))}\b", headers):
        return f"no header that is installed has {last}"
    for scope in scopes:
        defined = rf"\b(?:namespace|class|struct)\s+(?:INFOBATCH_\w+\s+)?{scope}\b[^;{{]*\{{"
        if not re.search(defined, headers):
            return f"no header that is installed defines {scope}"
    return None


def compared(file: Path, names: set, renew: bool) -> list:
    """What differs between the names of a library and their list, which `renew` writes anew."""
    if renew:
        file.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
    listed = set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()
    where = file.relative_to(ROOT)
    return [f"exports {name}, which {where} does not list" for name in sorted(names - listed)] + [
        f"does not export {name}, which {where} lists" for name in sorted(listed - names)
    ]


def main() -> int:
    renew = "--renew" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--renew"]
    present = [ROOT / name for name in LIBRARIES if (ROOT / name).is_file()]
    if arguments:
        library = Path(arguments[0])
    elif present:
        library = max(present, key=lambda file: file.stat().st_mtime)
    else:
        print("exports: no library yet; run make test or .ci/engine.sh release first", file=sys.stderr)
        return 2
    symbols = exported(library)
    headers = public_headers()
    problems = [f"exports {name}: {why}" for name in sorted(symbols["C++"]) if (why := not_public(name, headers))]
    problems += [f"exports {name}, which does not begin with ib_" for name in sorted(symbols["C"]) if not name.startswith("ib_")]
    for language, file in LISTS.items():
        problems += compared(file, symbols[language], renew)
    problems = [f"{library.name} {problem}" for problem in problems]
    samplers = library.parent.parent / "samplers/libinfobatch_samplers.so"
    of_samplers = set()
    if samplers.is_file():
        of_samplers = {name for name in defined(samplers, "T") if name.startswith("infobatch::")}
        problems += [f"{samplers.name} {problem}" for problem in compared(SAMPLERS, of_samplers, renew)]
    for problem in problems:
        print(f"exports: {problem}", file=sys.stderr)
    if problems:
        print("exports: where the interface was meant to change: .ci/exports.py --renew, then look at git diff .ci", file=sys.stderr)
        return 1
    print(f"exports: {len(symbols['C'])} C symbols and {len(symbols['C++'])} C++ symbols, {len(of_samplers)} of the samplers, as listed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
