# SPDX-License-Identifier: GPL-2.0
"""What pins.wait.max trades: memory management's success for I/O latency."""

from tables import table

HOWS = [("baseline", "0", "unpatched"), ("longterm", "0", "FOLL_LONGTERM"),
        ("pins", "0", "wait.max 0"), ("pins", "1000", "wait.max 1 ms"),
        ("pins", "20000", "wait.max 20 ms"), ("pins", "max", "wait.max max")]

PHASES = {"spaced": "an attempt every 300 ms", "packed": "attempts back to back"}


def ms(us):
    return f"{us / 1000:.1f}"


def report(runs):
    scenes, rows = [], []
    for records in runs.values():
        for r in records:
            if "scene" in r and r["scene"] not in scenes:
                scenes.append(r["scene"])
    for scene in scenes:
        for kernel, wait, name in HOWS:
            records = [r for r in runs.get(kernel, []) if r.get("scene") == scene]
            alone = [r["us"] for r in records if "alone" in r]
            quiet = [r for r in records if r.get("wait") == wait
                     and r["phase"] == "quiet"]
            for phase in PHASES:
                mine = [r for r in records if r.get("wait") == wait
                        and r["phase"] == phase]
                tries = [r for r in mine if "taken" in r]
                if not tries:
                    continue
                row = {"scene": scene, "kernel": kernel, "how": name,
                       "phase": phase, "tries": len(tries),
                       "taken": sum(r["taken"] for r in tries),
                       "slowest us": max(r["us"] for r in tries),
                       "alone us": max(alone, default=0)}
                for r in mine:
                    if "kind" in r:
                        row[r["kind"]] = {k: r[k] for k in ("p50", "p99", "max")}
                        row[r["kind"]]["per s"] = r["ios"] * 1e9 / r["ns"]
                for r in quiet:
                    if r["kind"] in row:
                        row[r["kind"]]["quiet per s"] = r["ios"] * 1e9 / r["ns"]
                rows.append(row)
    return rows, text(scenes, rows), plot(scenes, rows)


def text(scenes, rows):
    parts = ["Memory that has to move while a slow disk (100 ms) reads into it. Guest "
             "time, one CPU, 1 ns for each instruction; milliseconds"]
    for scene in scenes:
        for phase, what in PHASES.items():
            lines = []
            for row in rows:
                if (row["scene"], row["phase"]) != (scene, phase):
                    continue
                cells = [row["how"], f"{row['taken']} of {row['tries']}",
                         ms(row["slowest us"])]
                for kind in "inside", "outside":
                    k = row.get(kind)
                    cells += ([ms(k["p50"]), ms(k["p99"]), ms(k["max"]),
                               f"{k['per s']:.0f}"] if k else ["-"] * 4)
                lines.append(cells)
            if lines:
                alone = next(r["alone us"] for r in rows if r["scene"] == scene)
                parts.append(f"{scene}; {what} ({ms(alone)} without I/O)\n\n" + table(
                    ["", "taken", "slowest", "I/O there: p50", "p99", "max", "per s",
                     "elsewhere: p50", "p99", "max", "per s"], lines))
    return "\n\n".join(parts)


def plot(scenes, rows):
    """Success against the latency that it costs, a line for each scene."""
    points = [r for r in rows if r["phase"] == "spaced" and "inside" in r]
    if not points:
        return None
    data, plots = [], []
    for i, scene in enumerate(scenes):
        mine = [r for r in points if r["scene"] == scene]
        if not mine:
            continue
        data.append(f"$scene{i} << END")
        for r in mine:
            label = r["how"] if i == 0 or r["kernel"] != "pins" else ""
            data.append(f'{r["inside"]["p99"] / 1000:.3f} '
                        f'{100 * r["taken"] / r["tries"]:.1f} "{label}"')
        data.append("END")
        n = sum(r["kernel"] != "pins" for r in mine)
        plots.append(f'$scene{i} using 1:2 every ::{n} with linespoints lc {i + 1} '
                     f'pt 7 title "{scene}"')
        plots.append(f'$scene{i} using 1:2 every ::0::{max(n - 1, 0)} with points '
                     f'lc {i + 1} pt 6 ps 1.5 notitle')
        plots.append(f'$scene{i} using 1:2:3 with labels offset 0,1 notitle')
    return "\n".join(data) + """
set terminal svg noenhanced size 900,560 font "sans-serif,13" background "white"
set output out
set title "What pins.wait.max trades (circles: the unpatched kernel, FOLL_LONGTERM for direct I/O)"
set xlabel "99th percentile of the I/O there, in ms; the disk takes 100 ms"
set ylabel "attempts that succeeded at once, in percent"
set yrange [-5:112]
set key outside below
set offsets graph 0.1, graph 0.1, 0, 0
plot """ + ", ".join(plots) + "\n"
