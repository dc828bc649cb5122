"""What several machines exchange and hold for one table of samples, by the engine's own rules.

    python bench/ranges.py [--gigabits 100]

Two ways. *Replicated* (`set_ranks`, as in docs/distributed.md): every rank holds the scores of all samples
and makes the same plan; between epochs the losses of all ranks are gathered, 4 bytes a row. *Ranges*
(`set_range`): every rank holds its own range; the epoch and the exact sum of the scores travel, and with
keep = "exact" rounds of counts that close in on the draw where the samples are cut. Bytes are those that a
rank receives in an epoch; seconds are these bytes on a link of each rank, without latency. Memory is what a
session takes while it plans. Nothing here is measured.
"""

import argparse
import json
import math

#: Of a session with one column, in bytes a sample: score, staged loss, two plans (docs/rules.md, limits).
BYTES_PER_SAMPLE = 32
#: Samples of one session, with two classes.
LIMIT = 2**31
#: Of a rank: the epoch, and the sum.
SUM_BYTES = 8 + 56
#: Of a rank: members of two classes; draws below and in the window; the draw that is found, and its id.
COUNT_BYTES = 8 * 2 + 8 * 2 + 8 * 2
#: Of a rank: a round of counts.
PARTS = 64
ROUND_BYTES = 8 * PARTS


def replicated(ranks: int, samples: int, kept: float) -> tuple[float, float]:
    """Bytes that a rank receives, and that it holds; (nan, nan) beyond the limit of a session."""
    if samples > LIMIT:
        return math.nan, math.nan
    return 4 * samples * kept * (ranks - 1) / ranks, BYTES_PER_SAMPLE * samples


def ranges(ranks: int, samples: int, candidates: float, ratio: float, exact: bool) -> tuple[float, float]:
    received = SUM_BYTES * ranks
    if exact:
        members = samples * candidates
        # Ten deviations of the cut to each side, and ten draws.
        share = 1 - ratio
        window = 2 * (10 * math.sqrt(share * (1 - share) * members) + 10)
        # Each round leaves one of its parts, until one draw is in it: one round more than expected.
        rounds = math.ceil(math.log(window, PARTS)) + 1
        received += (COUNT_BYTES + ROUND_BYTES * rounds) * ranks
    local = samples / ranks
    held = BYTES_PER_SAMPLE * local if local <= LIMIT else math.nan
    return received, held


def shown(value: float, units: tuple[str, ...] = ("B", "KB", "MB", "GB", "TB")) -> str:
    if math.isnan(value):
        return "beyond one session"
    step = 0
    while value >= 1000 and step + 1 < len(units):
        value, step = value / 1000, step + 1
    return f"{value:.3g} {units[step]}"


def seconds(received: float, gigabits: float) -> str:
    if math.isnan(received):
        return "-"
    time = received * 8 / (gigabits * 1e9)
    return f"{time:.2g} s" if time >= 1e-3 else "< 1 ms"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabits", type=float, default=100.0)
    parser.add_argument("--candidates", type=float, default=0.65, help="share of the samples below the mean")
    parser.add_argument("--prune-ratio", type=float, default=0.5)
    parser.add_argument("--json", help="a file for the same figures")
    options = parser.parse_args()
    kept = 1 - options.candidates * options.prune_ratio
    print("| samples | ranks | way | received by a rank and epoch | time | memory a rank |")
    print("|---|---|---|---|---|---|")
    rows = []
    for samples in (10**8, 10**9, 10**10):
        for ranks in (8, 64, 1024):
            ways = {
                "replicated": replicated(ranks, samples, kept),
                "ranges": ranges(ranks, samples, options.candidates, options.prune_ratio, exact=False),
                "ranges, exact": ranges(ranks, samples, options.candidates, options.prune_ratio, exact=True),
            }
            for way, (received, held) in ways.items():
                rows.append(
                    {"samples": samples, "ranks": ranks, "way": way, "received": received, "held": held}
                )
                print(
                    f"| {samples:.0e} | {ranks} | {way} | {shown(received)} | "
                    f"{seconds(received, options.gigabits)} | {shown(held)} |"
                )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
