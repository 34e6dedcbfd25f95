# SPDX-License-Identifier: Apache-2.0
"""A result as JSON, as a table for people, and the place of that table in README.md."""
import json
import os
import shutil
import statistics

from .result import OURS

MARKS = "<!-- results: begin -->", "<!-- results: end -->"
SCHEMA = 1


def as_json(rows, about):
    def measure(m):
        return {"what": m.what, "unit": m.unit, "better": m.better, "caches": m.caches,
                "series": {n: {"values": v, "median": statistics.median(v), "min": min(v), "max": max(v),
                               "latency_us": m.latency_median(n), "per_second": m.seconds.get(n)} for n, v in m.series.items()},
                "ratios": m.judged(), "bounds": m.bounds}

    return {"schema": SCHEMA, **about,
            "rows": [{"row": r.number, "title": r.title, "seconds": round(r.seconds, 1), "missing": r.missing(), "checks": r.checks,
                      "gaps": r.gaps, "notes": r.notes, "measures": [measure(m) for m in r.measures]} for r in rows]}


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def spread(series):
    return f"{number(series['median'])} [{number(series['min'])}, {number(series['max'])}]"


def verdict(met):
    return {True: "reached", False: "**missed**", None: ""}[met]


def table(result):
    """Markdown. One line for a contender; the ratio says how much better vstored was, round by round."""
    lines = ["| row | contender | median [min, max] | vstored is better by [min, max] | target | verdict |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        for m in row["measures"]:
            lines.append(f"| {row['row']} | *{m['what']}* ({m['unit']}) | | | | |")
            for name, series in m["series"].items():
                ratio = m["ratios"].get(name)
                if name == OURS or not ratio:
                    lines.append(f"| | {name} | {spread(series)} | | | |")
                    continue
                words = f"{ratio['median']:.2f} [{ratio['min']:.2f}, {ratio['max']:.2f}]"
                wanted = f">= {ratio['target']}" if ratio["target"] is not None else ""
                lines.append(f"| | {name} | {spread(series)} | {words} | {wanted} | {verdict(ratio['met'])} |")
            for b in m["bounds"]:
                sign = ">=" if b["better"] == "more" else "<="
                lines.append(f"| | {b['what']} | {b['value']:.2f} {b['unit']} | | {sign} {b['limit']:.2f} {b['unit']} | {verdict(b['met'])} |")
        for gap in row["gaps"]:
            lines.append(f"| {row['row']} | {gap['who']} | GAP: {gap['why'].replace('|', '/')} | | | |")
        if row["missing"]:
            lines.append(f"| {row['row']} | {row['title']} | MISSING: {row['missing'].replace('|', '/')} | | | |")
    return "\n".join(lines)


def markdown(result):
    machine = result["machine"]
    head = (f"`bench/run --{result['mode']}` at commit {machine['commit']}{' with changes' if machine['changed'] else ''}, {result['started']}, "
            f"{result['rounds']} rounds, {result['seconds'] / 60:.0f} minutes.\n"
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}, Linux {machine['kernel']}, {machine['file_system']}. "
            + "; ".join(machine["versions"].values()) + ".")
    runs = [f"Row {r['row']} is of another run: `bench/run --{r['run']['mode']}` at commit {r['run']['commit']}"
            f"{' with changes' if r['run']['changed'] else ''}, {r['run']['started']}, {r['run']['rounds']} rounds." for r in result["rows"] if r.get("run")]
    notes = [f"* row {r['row']}: {text}" for r in result["rows"] for text in
             [f"{m['what']}: {m['caches']}" for m in r["measures"] if m["caches"]] + r["notes"]]
    checks = [c for r in result["rows"] for c in r["checks"]]
    wrong = [f"* row {r['row']}: WRONG DATA: {c['what']} {c['words']}" for r in result["rows"] for c in r["checks"] if not c["good"]]
    return "\n\n".join(filter(None, [head, "\n".join(runs), table(result), "\n".join(notes),
                                     f"{sum(c['good'] for c in checks)} of {len(checks)} checks of the data passed.", "\n".join(wrong)])) + "\n"


def save(result, rows, folder):
    os.makedirs(folder, exist_ok=True)
    for row in rows:
        if row.profiles:
            with open(os.path.join(folder, f"profile-row-{row.number}.txt"), "w", encoding="utf-8") as file:
                file.write("\n".join(f"== {what}\n{text}" for what, text in row.profiles.items()))
    with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as file:
        file.write(markdown(result))


def merge(results):
    """One result of several: a later one's rows take the place of the same rows before, and each row that did says from which run it is."""
    merged = dict(results[0])
    for later in results[1:]:
        run = {key: later[key] for key in ("mode", "started", "rounds")} | {key: later["machine"][key] for key in ("commit", "changed")}
        rows = {row["row"]: row for row in merged["rows"]} | {row["row"]: row | {"run": row.get("run", run)} for row in later["rows"]}
        merged["rows"] = [rows[number] for number in sorted(rows)]
    return merged


def adopt(folders, bench_folder, draw):
    """Takes results into bench/results, and their table and plots into bench/README.md, between the marks. Of several, see merge."""
    results = []
    for folder in folders:
        with open(os.path.join(folder, "result.json"), encoding="utf-8") as file:
            results.append(json.load(file))
    target, new = os.path.join(bench_folder, "results"), os.path.join(bench_folder, "results.new")
    shutil.rmtree(new, ignore_errors=True)
    result = merge(results)
    save(result, [], new)
    for folder in folders:  # results itself may be the first of them
        for name in os.listdir(folder):
            if name.startswith("profile-row-"):
                shutil.copy(os.path.join(folder, name), new)
    draw(result, new)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(new, target)
    plots = sorted(n for n in os.listdir(target) if n.endswith(".svg"))
    text = markdown(result) + "\n" + "\n".join(f"![{n[:-4]}](results/{n})" for n in plots)
    readme = os.path.join(bench_folder, "README.md")
    with open(readme, encoding="utf-8") as file:
        old = file.read()
    before, rest = old.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    with open(readme, "w", encoding="utf-8") as file:
        file.write(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
