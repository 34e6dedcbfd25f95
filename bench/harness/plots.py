# SPDX-License-Identifier: Apache-2.0
"""SVG plots of a result, by gnuplot: the ratios beside their targets, latencies, and row 5 second by second."""
import os
import subprocess

from .machine import Failed
from .result import OURS

HEAD = """set terminal svg size {width},{height} font "sans,12" background "white"
set output "{path}"
set border 3 lc rgb "#888888"
set grid y lc rgb "#dddddd"
set tics nomirror
"""


def gnuplot(path, script, width=900, height=420):
    try:
        done = subprocess.run(["gnuplot"], input=HEAD.format(path=path, width=width, height=height) + script, text=True,
                              capture_output=True, check=False)
    except FileNotFoundError:
        raise Failed("gnuplot is not installed") from None
    if done.returncode:
        raise Failed(f"gnuplot: {done.stderr.strip()[-300:]}")


def block(name, lines):
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


def quoted(text):
    return '"' + text.replace('"', "'").replace("_", " ") + '"'


def ratios(result, path):
    """Each ratio that has a target, as a part of it, with its spread over the rounds: 1 is the target."""
    lines = []
    for row in result["rows"]:
        for m in row["measures"]:
            for peer, ratio in m["ratios"].items():
                if ratio["target"]:
                    label = f"{row['row']}: {peer} >= {ratio['target']}"
                    lines.append(f"{len(lines)} {quoted(label)} " + " ".join(f"{ratio[k] / ratio['target']:.4f}" for k in ("median", "min", "max")))
    if lines:
        gnuplot(path, block("d", lines) + """set style fill solid 0.8
set boxwidth 0.6
set rmargin 18
set yrange [0:*]
set xtics rotate by -40
set ylabel "ratio / target (1: reached)"
unset key
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#cc3333" lw 2 front
plot $d using 1:3:xtic(2) with boxes lc rgb "#4477aa", $d using 1:3:4:5 with yerrorbars lc rgb "black" pt -1
""", height=520)


def latencies(row, path):
    """Median, 99 and 99.9 percent of each contender of the row's first measure that has them."""
    for m in row["measures"]:
        lines = [f"{quoted(name)} {s['latency_us']['p50']} {s['latency_us']['p99']} {s['latency_us']['p99.9']}"
                 for name, s in m["series"].items() if s["latency_us"]]
        if lines:
            gnuplot(path, block("d", lines) + f"""set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8
set logscale y
set ylabel "microseconds"
set title {quoted(f"row {row['row']}: {m['what']}")}
set xtics rotate by -15
set key top left
plot $d using 2:xtic(1) title "median" lc rgb "#4477aa", $d using 3 title "99 %" lc rgb "#ddaa33", $d using 4 title "99.9 %" lc rgb "#bb5566"
""")
            return


def seconds(row, path):
    m = row["measures"][0]
    blocks, plots = "", []
    colours = ("#4477aa", "#bb5566", "#ddaa33", "#888888")
    for number, (name, series) in enumerate(m["series"].items()):
        if not series["per_second"]:
            continue
        flat = [value for slice_ in series["per_second"] for value in slice_]
        blocks += block(f"d{number}", [f"{i} {value}" for i, value in enumerate(flat)])
        plots.append(f'$d{number} using 1:2 with lines lw {2 if name == OURS else 1} lc rgb "{colours[number % 4]}" title {quoted(name)}')
    if plots:
        gnuplot(path, blocks + f"""set yrange [0:*]
set xlabel "seconds of its own (slices joined)"
set ylabel "writes a second"
set title {quoted(f"row {row['row']}: {m['what']}")}
plot {", ".join(plots)}
""")


def draw(result, folder):
    ratios(result, os.path.join(folder, "ratios.svg"))
    for row in result["rows"]:
        latencies(row, os.path.join(folder, f"latency-row-{row['row']}.svg"))
        if row["row"] == 5 and row["measures"]:
            seconds(row, os.path.join(folder, "row-5.svg"))
