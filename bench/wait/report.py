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


# What the plot shows of it, in words for those who do not know the scene
BARS = [("baseline", "0", "unpatched kernel"), ("longterm", "0", "FOLL_LONGTERM for direct I/O"),
        ("pins", "0", "pins.wait.max 0"), ("pins", "inherit", "default: 1 ms"),
        ("pins", "20000", "20 ms"), ("pins", "max", "max")]
# Not 512 threads: they mostly wait for the one CPU, as those do who read elsewhere
SHOWN = {"CMA, 64 reads of 64 kB, hot": "CMA area, same buffers again",
         "CMA, 64 reads of 64 kB": "CMA area, new buffers each time",
         "1 GB page, 64 reads of 64 kB": "place of a 1 GB page",
         "memory block, 64 reads of 64 kB": "memory to be taken offline"}


def plot(scenes, rows):
    """Above, how often memory was had; below, what that costs those who read there."""
    data, success, percent, latency, elsewhere = [], [], [], [], []
    names = {(kernel, wait): name for kernel, wait, name in HOWS}
    hows = []
    for kernel, wait, title in BARS:
        mine = {r["scene"]: r for r in rows if r["phase"] == "spaced"
                and r["how"] == names[kernel, wait] and "inside" in r}
        mine = {scene: mine[scene] for scene in SHOWN if scene in mine}
        if mine:
            hows.append((title, mine))
    if not hows:
        return None
    for i, (title, mine) in enumerate(hows):
        data.append(f"$how{i} << END")
        data += [f'"{wrap(SHOWN[scene], 18)}" {100 * r["taken"] / r["tries"]:.0f} '
                 f'{r["inside"]["p99"] / 1000:.1f} {r["outside"]["p99"] / 1000:.1f}'
                 for scene, r in mine.items()]
        data.append("END")
        success.append(f"$how{i} using 2:xtic(1) lc {i + 1} notitle")
        latency.append(f'$how{i} using 3:xtic(1) lc {i + 1} title "{title}"')
        # where the middle of its bars is
        x = (i - (len(hows) - 1) / 2) / (len(hows) + 1)
        percent.append(f"$how{i} using ($0 + {x:.4f}):2:2 with labels offset 0,0.6 notitle")
        elsewhere.append(f'$how{i} using ($0 + {x:.4f}):4 with points pt 7 ps 0.6 lc "black" '
                         + ("notitle" if i else 'title "reads elsewhere"'))
    return "\n".join(data) + f"""
set terminal svg noenhanced size 900,640 font "sans-serif,13" background "white"
set output out
set multiplot layout 2,1
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set grid ytics
set bmargin 4
set title "Emptying memory that programs read into from a slow disk: attempts that succeed"
set ylabel "percent"
set yrange [0:119]
set ytics 25
plot {", ".join(success + percent)}
set title "What it costs: of 100 reads into that memory, 99 are faster than this (the disk alone: 100 ms)"
set ylabel "ms"
set yrange [0:*]
set ytics autofreq
set bmargin 6
set key outside below
plot {", ".join(latency + elsewhere)}
unset multiplot
"""
