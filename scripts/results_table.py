#!/usr/bin/env python3
"""Turns the figures that infobatch-train wrote with --json into a Markdown table.

usage: results_table.py FILE.json

Means over the seeds, with the sample standard deviation where there are several. The ratios are those
of each seed against the full run of the same seed.
"""
import json
import statistics
import sys


def cell(values, digits):
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            report = json.load(file)
        config = report["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"results_table.py: {sys.argv[1]} must be what infobatch-train wrote with --json, got {error!r}")
    print(
        f"{config['data'].split(':')[0]}, {config['model']}, {config['dtype']}, "
        f"{config['epochs']} epochs of {config['train_samples']:,} samples, batch {config['batch_size']}, "
        f"r = {config['prune_ratio']}, delta = {config['delta']}, {len(config['seeds'])} seeds, "
        f"{config['threads']} threads of {report['machine']['processor']}, torch "
        f"{report['versions']['torch']}{', arms interleaved' if config['interleave'] else ''}\n"
    )
    # The processor's time first: it does not count what other programs do meanwhile.
    print("| arm | test accuracy, % | samples saved, % | CPU seconds | seconds "
          "| CPU seconds saved / samples saved | the same by the wall clock |")
    print("|---|---|---|---|---|---|---|")
    for arm in config["arms"]:
        runs = [run for run in report["runs"] if run["arm"] == arm]
        print(
            f"| {arm} | {cell([run['accuracy'] for run in runs], 2)} "
            f"| {cell([100 * run['saved'] for run in runs], 1)} "
            f"| {cell([run['cpu_seconds'] for run in runs], 1)} "
            f"| {cell([run['seconds'] for run in runs], 1)} "
            f"| {cell([run['cpu_seconds_saved_over_samples_saved'] for run in runs], 3)} "
            f"| {cell([run['seconds_saved_over_samples_saved'] for run in runs], 3)} |"
        )


if __name__ == "__main__":
    main()
