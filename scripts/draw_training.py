#!/usr/bin/env python3
"""Draws test accuracy against CPU seconds, a curve for each arm, of what infobatch-train wrote with --json.

usage: draw_training.py FILE.json PICTURE.svg

A point is an epoch: the mean over the seeds of the CPU seconds of training so far and of the accuracy behind
it. CPU seconds and not the wall clock, because they say what an arm costs on a machine where other programs
run, too. The caption names the run. The same file gives the same picture, byte by byte.
"""

import json
import statistics
import sys
from itertools import accumulate
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 22, 96
COLORS = ("#444444", "#0072b2", "#e69f00", "#cc3311", "#009e73", "#aa4499", "#56b4e9", "#999933")
DASHES = ("", "7 4", "2 3", "", "7 4", "2 3", "", "7 4")


def curve(report, arm):
    """The points of an arm, (CPU seconds, accuracy), means over its seeds."""
    runs = [run["history"] for run in report["runs"] if run["arm"] == arm]
    seconds = [list(accumulate(epoch["cpu_seconds"] for epoch in history)) for history in runs]
    accuracy = [[epoch["accuracy"] for epoch in history] for history in runs]
    mean = [[statistics.mean(column) for column in zip(*rows)] for rows in (seconds, accuracy)]
    return list(zip(*mean))


def step_of(span, most):
    """A round step, 1, 2 or 5 times a power of ten, that cuts `span` into at most `most` pieces."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if span <= factor * step * most:
                return factor * step
        step *= 10


def text(x, y, content, **attributes):
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(content)}</text>'


def draw(report):
    """The picture as lines of SVG."""
    config = report["config"]
    curves = {arm: curve(report, arm) for arm in config["arms"]}
    last_second = max(points[-1][0] for points in curves.values())
    x_step = step_of(last_second, 8)
    x_end = x_step * -(-last_second // x_step)
    best = max(y for points in curves.values() for _, y in points)
    # The lower half of the way up is the same for all arms.
    y_low = 5 * (min(points[len(points) // 4][1] for points in curves.values()) // 5)
    y_step = step_of(best - y_low, 8)
    y_end = y_low + y_step * -(-(best - y_low) // y_step)

    def at(x, y):
        return (LEFT + (WIDTH - LEFT - RIGHT) * x / x_end,
                TOP + (HEIGHT - TOP - BOTTOM) * (y_end - y) / (y_end - y_low))

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="13" fill="#222222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    x = 0
    while x <= x_end:
        px, bottom = at(x, y_low)
        lines.append(f'<path d="M{px:.1f} {TOP}V{bottom:.1f}" stroke="#e4e4e4"/>')
        lines.append(text(px, bottom + 17, f"{x:g}", text_anchor="middle"))
        x += x_step
    y = y_low
    while y <= y_end:
        left, py = at(0, y)
        lines.append(f'<path d="M{left} {py:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        lines.append(text(left - 7, py + 4, f"{y:g}", text_anchor="end"))
        y += y_step
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(text(16, middle, "test accuracy, %", text_anchor="middle",
                      transform=f"rotate(-90 16 {middle:.1f})"))
    lines.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 35, "CPU seconds of training",
                      text_anchor="middle"))

    legend_y = HEIGHT - BOTTOM - 16 - 19 * (len(curves) - 1)
    for (arm, points), color, dash in zip(curves.items(), COLORS, DASHES):
        visible = [at(*point) for point in points if point[1] >= y_low]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in visible)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        lines.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>')
        px, py = visible[-1]
        lines.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{color}"/>')
        lines.append(f'<path d="M{WIDTH - 330} {legend_y - 4}h34" stroke="{color}" stroke-width="2"{dashes}/>')
        seconds, accuracy = points[-1]
        lines.append(text(WIDTH - 288, legend_y, f"{arm}: {accuracy:.1f} % after {seconds:.0f} s", fill=color))
        legend_y += 19

    seeds = len(config["seeds"])
    share = "" if config["share"] is None else f", share {config['share']:g}"
    caption = (
        f"{config['data'].split(':')[0]}, {config['model']}, {config['dtype']}: {config['epochs']} epochs of "
        f"{config['train_samples']:,} samples, batch {config['batch_size']}, r = {config['prune_ratio']:g}{share}, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'},",
        f"{config['threads']} {'thread' if config['threads'] == 1 else 'threads'}"
        f"{', arms taking turns' if config['interleave'] else ''}; infobatch "
        f"{report['versions']['infobatch']}, torch {report['versions']['torch']}, {report['machine']['processor']}",
    )
    for row, line in enumerate(caption):
        lines.append(text(LEFT, HEIGHT - 30 + 16 * row, line, font_size="11", fill="#555555"))
    return [*lines, "</svg>", ""]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            picture = "\n".join(draw(json.load(file)))
    except (OSError, ValueError, KeyError, TypeError, IndexError, statistics.StatisticsError) as error:
        sys.exit(f"draw_training.py: {sys.argv[1]} must be what infobatch-train wrote with --json, got {error!r}")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()
