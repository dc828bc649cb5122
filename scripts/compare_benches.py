#!/usr/bin/env python3
"""Compares the benchmarks of two builds in interleaved pairs and prints, row by row, the median ratio.

    scripts/compare_benches.py <old build folder> <new build folder> [--pairs 11] [--filter REGEX] [--json FILE]

Both folders are build trees of the release preset with bench/ built. Each pair runs the old program and
the new one directly after one another, in turns, so that what else the machine does meets both. A ratio
above 1 means that the new build is slower. Exit status 1 where a median is above --limit.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("boundary_bench", "update_bench", "delivery_bench")
# What a row measures: the first of these counters that it has.
COUNTERS = ("best_ns_per_sample", "median_ns", "ns_per_index", "ns_per_batch", "ns_per_sample")


def run(folder: Path, program: str, pattern: str, min_time: float) -> dict:
    command = [str(folder / "bench" / program), "--benchmark_format=json"]
    if min_time:
        command.append(f"--benchmark_min_time={min_time}")
    if pattern:
        command.append(f"--benchmark_filter={pattern}")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {}
    for row in json.loads(output)["benchmarks"]:
        counter = next((name for name in COUNTERS if name in row), "real_time")
        rows[row["name"]] = row[counter]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--filter", default="")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--min-time", type=float, default=0.0, help="seconds a row, default: the program's")
    parser.add_argument("--limit", type=float, default=1.1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"--pairs must be at least 1, got {options.pairs}")

    times = {}
    for program in options.programs.split(","):
        for pair in range(options.pairs):
            order = ("old", "new") if pair % 2 == 0 else ("new", "old")
            measured = {which: run(getattr(options, which), program, options.filter, options.min_time)
                        for which in order}
            for name in measured["old"]:
                if name in measured["new"]:
                    times.setdefault(name, []).append((measured["old"][name], measured["new"][name]))
            print(f"{program}: pair {pair + 1} of {options.pairs}", file=sys.stderr, flush=True)

    slow = 0
    print("| row | old, ns | new, ns | median ratio | least | most |")
    print("|---|---|---|---|---|---|")
    report = {}
    for name, pairs in times.items():
        ratios = sorted(new / old for old, new in pairs)
        ratio = statistics.median(ratios)
        old = statistics.median(pair[0] for pair in pairs)
        new = statistics.median(pair[1] for pair in pairs)
        slow += ratio > options.limit
        report[name] = {"old": old, "new": new, "ratio": ratio, "ratios": ratios}
        print(f"| {name} | {old:.4g} | {new:.4g} | {ratio:.3f} | {ratios[0]:.3f} | {ratios[-1]:.3f} |")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
