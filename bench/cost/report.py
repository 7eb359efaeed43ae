# SPDX-License-Identifier: GPL-2.0
"""Instructions of each work on the patched kernel, against the baseline."""

from statistics import median, quantiles

from tables import judge, table, wrap

WORKS = {
    "short": "pin_user_pages_fast + unpin, 4 kB",
    "direct": "O_DIRECT read of 4 kB, null_blk",
    "long": "pin_user_pages LONGTERM + unpin, 4 kB",
    "long fast": "pin_user_pages_fast LONGTERM + unpin, 4 kB",
    "uring": "io_uring register + unregister, 1 MB of 4 kB",
    "read fixed": "io_uring READ_FIXED of 4 kB, null_blk",
    "sync": "write() + fdatasync() of 4 kB of 1 MB, ext4",
    "sync mapped": "the same, by a shared mapping",
    "long thp": "LONGTERM + unpin, THP",
    "long hugetlb": "LONGTERM + unpin, hugetlb 2 MB",
    # Without a goal
    "long fast thp": "fast LONGTERM + unpin, THP",
    "long fast hugetlb": "fast LONGTERM + unpin, hugetlb 2 MB",
    "direct 64k": "O_DIRECT read of 64 kB, null_blk",
    "short one": "pin_user_pages_fast + unpin, 4 kB, one at a time",
    "long one": "LONGTERM + unpin, 4 kB, one at a time",
    "long fast one": "fast LONGTERM + unpin, 4 kB, one at a time",
    "long apart": "LONGTERM + unpin, 4 kB, scattered",
    "long fast apart": "fast LONGTERM + unpin, 4 kB, scattered",
    "long alone": "LONGTERM + unpin, 4 kB, one in each 256 kB",
    "long fast alone": "fast LONGTERM + unpin, 4 kB, one in each 256 kB",
    "long first": "LONGTERM + unpin, 4 kB, first",
    "long fast first": "fast LONGTERM + unpin, 4 kB, first",
    "long alone first": "LONGTERM + unpin, 4 kB, one in each 256 kB, first",
    "long thp first": "LONGTERM + unpin, THP, first",
}
GOALS = {   # unused, in use, in use: aim
    "short": (1.003, 1.005, None),
    "direct": (1.002, 1.004, None),
    "long": (1.003, 1.20, 1.10),
    "long fast": (1.003, 1.40, 1.20),
    "uring": (1.003, 1.40, 1.20),
    "read fixed": (1.002, 1.002, None),
    "sync": (1.002, 1.002, None),
    "long thp": (1.003, 1.03, None),
    "long hugetlb": (1.003, 1.03, None),
}
NOTES = """\
Calls are for 512 pages, but for one at a time; io_uring takes 256. First: the
task has not pinned for 10 s, so the map is empty; all others pin the same memory
again and again. Rest: what is done later, in the same system calls or, for first,
in the background; the ratios contain it."""
BASE = "baseline"
MODES = ["unused", "in use"]


def costs(runs):
    """cost[mode][work][call] in instructions per unit; mode "baseline" too.

    Beside the calls that were measured: "rest", what the patched kernel does
    more than the baseline outside the pin and unpin calls, and "sum", both.
    """
    cost = {}
    for kernel, records in runs.items():
        for r in records:
            if "work" not in r:
                continue
            mode = BASE if kernel == "baseline" else r["mode"]
            cost.setdefault(mode, {}).setdefault(r["work"], {})[r["call"]] = median(r["values"])

    def outside(call):
        return call["whole"] - call["calls"]

    for works in cost.values():
        for work, call in works.items():
            base = cost.get(BASE, {}).get(work)
            if base and "whole" in call:
                call["rest"] = outside(call) - outside(base)
            call["sum"] = call["calls"] + call.get("rest", 0)
    return cost


def spread(runs):
    """Half of a work's repetitions lie within so many percent of each other."""
    worst = 0
    for r in (r for records in runs.values() for r in records):
        if r.get("call") == "calls":
            low, middle, high = quantiles(r["values"])
            worst = max(worst, 100 * (high - low) / middle)
    return worst


def number(value, digits=1):
    return "" if value is None else f"{value:.{digits}f}"


def report(runs):
    cost = costs(runs)

    def get(mode, work, call="sum"):
        return cost.get(mode, {}).get(work, {}).get(call)

    def ratio(mode, work, call="sum"):
        value, base = get(mode, work, call), get(BASE, work, call)
        return value / base if value and base else None

    rows = []
    for key, name in WORKS.items():
        *goals, aim = GOALS.get(key, (None, None, None))
        row = {"work": name, "per": "read" if "direct" in key or "read" in key else "page",
               "baseline": get(BASE, key)}
        for mode, goal in zip(MODES, goals):
            row[mode] = {"instructions": get(mode, key), "ratio": ratio(mode, key),
                         "goal": goal, "verdict": judge(ratio(mode, key), goal)}
        if aim:
            row["in use"]["aim"] = aim
            row["in use"]["verdict"] = judge(ratio("in use", key), goals[1], aim)
        row["other modes"] = {mode: ratio(mode, key) for mode in cost
                              if mode not in MODES + [BASE] and get(mode, key)}
        if row["baseline"] or row["unused"]["instructions"]:
            rows.append(row)

    release = next(iter(runs.values()))[0]["release"]
    text = "\n\n".join(texts(release, rows, cost, get, ratio))
    text += (f"\n\n{NOTES}\n\nMedians. Of the repetitions of a work half lie within "
             f"{spread(runs):.3f}% of each other, or less")
    return rows, text, plot(rows)


def texts(release, rows, cost, get, ratio):
    yield ("Instructions per page of 4 kB (per read for direct I/O), also as a ratio "
           f"to the\nunpatched kernel, Linux {release}")

    lines = []
    for row in rows:
        line = [row["work"], number(row["baseline"])]
        for mode in MODES:
            m = row[mode]
            goal = f"<= {m['goal']:g}" if m["goal"] else ""
            line += [number(m["instructions"]), number(m["ratio"], 4), goal, m["verdict"]]
        lines.append(line)
    yield table(["work", "baseline", "unused", "ratio", "goal", "",
                 "in use", "ratio", "goal", ""], lines)

    lines = []
    for key, name in WORKS.items():
        if get(BASE, key, "pin") is None:
            continue
        line = [name]
        for call in "pin", "unpin":
            line += [number(get(BASE, key, call)), number(get("unused", key, call)),
                     number(get("in use", key, call)), number(ratio("in use", key, call), 3)]
        lines.append(line + [number(get("in use", key, "rest"))])
    yield "The same, pin and unpin apart"
    yield table(["work", "pin: baseline", "unused", "in use", "ratio",
                 "unpin: baseline", "unused", "in use", "ratio", "rest"], lines)

    others = [mode for mode in cost if mode not in MODES + [BASE]]
    if others:
        yield "Ratios in other circumstances"
        yield table(["work"] + others,
                    [[row["work"]] + [number(row["other modes"].get(mode), 4)
                                      for mode in others]
                     for row in rows if row["other modes"]])


def plot(rows):
    rows = [row for row in rows if row["in use"]["goal"] and row["in use"]["ratio"]]
    if not rows:
        return None
    data = ["$data << END"]
    for i, row in enumerate(rows):
        label = wrap(row["work"])
        values = [row[mode][what] for mode in MODES for what in ("ratio", "goal")]
        data.append(f'{i} "{label}" ' + " ".join(f"{value:.4f}" for value in values))
    data.append("END")
    found = [row[mode][what] for row in rows for mode in MODES
             for what in ("ratio", "goal")]
    return "\n".join(data) + f"""
set terminal svg noenhanced size 1100,600 font "sans-serif,13" background "white"
set output out
set title "Instructions of pinning and direct I/O with the pins controller"
set ylabel "ratio to the unpatched kernel"
set yrange [{min(found + [1]) - 0.02:.2f}:{max(found) + 0.06:.2f}]
set xrange [-0.6:{len(rows) - 0.4}]
set grid ytics lc rgb "#dddddd"
set border 3
set bmargin 5
set xtics nomirror scale 0
set ytics nomirror
set key top left Left reverse
set style fill solid
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#666666"
plot $data using ($1-0.19):(1):($1-0.36):($1-0.02):(1):3:xtic(2) \\
        with boxxyerror lc rgb "#8fb0d0" title "no cgroup uses pins", \\
     $data using ($1+0.19):(1):($1+0.02):($1+0.36):(1):5 \\
        with boxxyerror lc rgb "#2f6292" title "task in a cgroup with pins.max", \\
     $data using ($1-0.19):4:(0.17) with xerrorbars lw 2 pt 0 lc rgb "#c2410c" title "goal", \\
     $data using ($1+0.19):6:(0.17) with xerrorbars lw 2 pt 0 lc rgb "#c2410c" notitle, \\
     $data using ($1-0.19):($3>$4?$3:$4):(sprintf("%.3f",$3)) with labels offset 0,0.7 notitle, \\
     $data using ($1+0.19):($5>$6?$5:$6):(sprintf("%.3f",$5)) with labels offset 0,0.7 notitle
"""
