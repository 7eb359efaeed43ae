# SPDX-License-Identifier: GPL-2.0
"""What pins.wait.max trades: memory management's success for I/O latency."""

from tables import table, wrap

HOWS = [("baseline", "0", "unpatched"), ("longterm", "0", "FOLL_LONGTERM"),
        ("pins", "0", "wait.max 0"), ("pins", "inherit", "default"),
        ("pins", "1000", "wait.max 1 ms"),
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
                    if "longest us" in r:
                        row["waits"], row["longest us"] = r["waits"], r["longest us"]
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
                         ms(row["slowest us"]), str(row.get("waits", "-")),
                         ms(row["longest us"]) if "longest us" in row else "-"]
                for kind in "inside", "outside":
                    k = row.get(kind)
                    cells += ([ms(k["p50"]), ms(k["p99"]), ms(k["max"]),
                               f"{k['per s']:.0f}"] if k else ["-"] * 4)
                lines.append(cells)
            if lines:
                alone = next(r["alone us"] for r in rows if r["scene"] == scene)
                parts.append(f"{scene}; {what} ({ms(alone)} without I/O)\n\n" + table(
                    ["", "taken", "slowest", "waits", "longest", "I/O there: p50", "p99", "max", "per s",
                     "elsewhere: p50", "p99", "max", "per s"], lines))
    return "\n\n".join(parts)


def plot(scenes, rows):
    """Above, how often memory was had; below, what that costs those who read there."""
    data, plots = [], []
    for i, scene in enumerate(scenes):
        mine = {r["how"]: r for r in rows if (r["scene"], r["phase"]) == (scene, "spaced")}
        data.append(f"$scene{i} << END")
        for x, (_, _, how) in enumerate(HOWS):
            r = mine.get(how)
            if not r or "inside" not in r:
                continue
            data.append(f'{x + (i - len(scenes) / 2) * 0.1:.2f} '
                        f'{100 * r["taken"] / r["tries"]:.1f} '
                        f'{r["inside"]["p50"] / 1000:.3f} {r["inside"]["p99"] / 1000:.3f} '
                        f'{r["inside"]["max"] / 1000:.3f}')
        data.append("END")
        plots.append((f"$scene{i}", f"lc {i + 1} pt 7 lw 2", scene))
    if not plots:
        return None
    tics = ", ".join(f'"{wrap(how, 14)}" {x}' for x, (_, _, how) in enumerate(HOWS))
    success = ", ".join(f"{name} using 1:2 with points {look} notitle"
                        for name, look, _ in plots)
    latency = ", ".join(f'{name} using 1:4:3:5 with yerrorbars {look} title "{scene}"'
                        for name, look, scene in plots)
    return "\n".join(data) + f"""
set terminal svg noenhanced size 900,700 font "sans-serif,13" background "white"
set output out
set multiplot layout 2,1 title "What pins.wait.max trades: one attempt every 300 ms, a disk of 100 ms"
set xrange [-0.5:{len(HOWS) - 0.5}]
set xtics ({tics})
set grid ytics
set bmargin 3
set ylabel "attempts that succeeded, in percent"
set yrange [-8:108]
plot {success}
set ylabel "I/O there in ms: p50, p99 (dot), max"
set yrange [0:*]
set key outside below spacing 0.9
plot {latency}
unset multiplot
"""
