#!/usr/bin/env python3
"""Reads what ptxas -v said about every kernel: ours may not spill, nor take more than 48 KiB of shared memory.

Usage: scripts/check_ptxas.py LOG ... [--json FILE]. Of a kernel that was compiled several times the last time
counts. Prints a line for each of our kernels and architecture;
exit status 1 when one breaks a rule, or when there is no kernel of ours. Those of CUB are counted alone.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

MOST_SHARED = 48 << 10
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangled(names: list) -> list:
    try:
        result = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return names
    return result.stdout.splitlines()


def kernels_of(text: str) -> list:
    """One dictionary a kernel and architecture."""
    found = []
    for line in text.splitlines():
        if match := ENTRY.search(line):
            found.append({"kernel": match[1], "arch": match[2], "stack": 0, "spilled": 0, "registers": 0, "shared": 0})
        if not found:
            continue
        if match := STACK.search(line):
            found[-1]["stack"] = int(match[1])
            found[-1]["spilled"] = int(match[2]) + int(match[3])
        if match := USED.search(line):
            found[-1]["registers"] = int(match[1])
            shared = SHARED.search(line)
            found[-1]["shared"] = int(shared[1]) if shared else 0
    return found


def short(name: str) -> str:
    """`infobatch::cuda::(anonymous namespace)::decide(...)` without what says nothing."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|infobatch::(cuda::)?", "", name)
    name = re.sub(r"_GLOBAL__N__\w+::|_INTERNAL_\w+::", "", name)
    name = re.sub(r"\((?:const |unsigned |signed )?(?:long|int|float|double|char|short)\b.*$", "", name)
    return re.sub(r"^void ", "", name)


def main() -> int:
    arguments = sys.argv[1:]
    report = None
    if "--json" in arguments:
        at = arguments.index("--json")
        report = Path(arguments[at + 1])
        del arguments[at:at + 2]
    kernels = []
    for log in arguments:
        kernels += kernels_of(Path(log).read_text(encoding="utf-8", errors="replace"))
    kernels = list({(kernel["kernel"], kernel["arch"]): kernel for kernel in kernels}.values())
    ours = [kernel for kernel in kernels if "9infobatch" in kernel["kernel"] and "3cub" not in kernel["kernel"][:12]]
    for kernel, name in zip(ours, demangled([kernel["kernel"] for kernel in ours])):
        kernel["name"] = short(name)
    ours.sort(key=lambda kernel: (kernel["name"], kernel["arch"]))
    wrong = 0
    print(f"{'registers':>9} {'shared':>6} {'stack':>5} {'spilled':>7}  arch   kernel")
    for kernel in ours:
        bad = kernel["spilled"] > 0 or kernel["shared"] > MOST_SHARED
        wrong += bad
        print(f"{kernel['registers']:9} {kernel['shared']:6} {kernel['stack']:5} {kernel['spilled']:7}  "
              f"{kernel['arch']}  {kernel['name'][:100]}{'   <-- refused' if bad else ''}")
    if report is not None:
        report.write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
    print(f"check_ptxas: {len(ours)} kernels of ours, {wrong} refused; {len(kernels) - len(ours)} of CUB")
    return 1 if wrong or not ours else 0


if __name__ == "__main__":
    sys.exit(main())
