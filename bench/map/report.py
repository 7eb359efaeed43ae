# SPDX-License-Identifier: GPL-2.0
"""Kernel memory of the pin map, in percent of the pinned memory."""

from tables import judge, table, wrap

# key, name, goal in percent when in use
LAYOUTS = [
    ("dense", "4 kB pages, densely pinned", 0.25),
    ("alone 256k", "4 kB pages, one in each 256 kB", 15),
    ("alone 2M", "4 kB pages, one in each 2 MB", 15),
    ("huge", "huge pages of 2 MB (hugetlb)", 0.001),
    ("apart", "4 kB pages, one in twelve, at random", None),
]


def report(runs):
    records = [r for records in runs.values() for r in records if "layout" in r]

    def total(mode, layout):
        for r in records:
            if (r["mode"], r["layout"]) == (mode, layout) and "pinned" in r:
                return r
        return None

    rows = []
    for key, name, goal in LAYOUTS:
        unused, used = total("unused", key), total("in use", key)
        if not unused or not used:
            continue
        caches = {r["cache"]: r["objects"] for r in records if "cache" in r
                  and (r["mode"], r["layout"]) == ("in use", key)}
        percent = 100 * used["bytes"] / used["pinned"]
        rows.append({
            "layout": name, "pinned": used["pinned"],
            "unused bytes": unused["bytes"], "bytes": used["bytes"],
            "slab bytes": used["slabs"], "percent": percent, "goal": goal,
            "verdict": judge(percent, goal), "objects": caches,
        })

    left = max((r["bytes"] for r in records
                if r["layout"] == "gone" and "pinned" in r), default=0)
    return rows, text(rows, left), plot(rows)


def text(rows, left):
    lines = []
    for row in rows:
        goal = f"<= {row['goal']:g}%" if row["goal"] else ""
        objects = ", ".join(f"{nr} {cache}" for cache, nr in row["objects"].items())
        lines.append([row["layout"], f"{row['pinned'] / 2**20:.1f}",
                      f"{row['unused bytes']}", f"{row['bytes']}",
                      f"{row['slab bytes']}", f"{row['percent']:.4f}%",
                      goal, row["verdict"], objects])
    return "\n\n".join([
        "Kernel memory for the pin map (objects with their share of the slab's "
        "pages; beside it, by how much the slabs grew)",
        table(["pinned memory", "MB", "unused", "in use", "slabs", "of it",
               "goal", "", "objects"], lines),
        f"Left when all pins are gone: {left} bytes at most"])


def plot(rows):
    if not rows:
        return None
    data = ["$data << END"]
    for i, row in enumerate(rows):
        label = wrap(row["layout"])
        value, goal = max(row["percent"], 1e-5), row["goal"]
        data.append(f'{i} "{label}" {value:.6f} {goal or "NaN"} '
                    f'{max(value, goal or 0):.6f} "{value:.2g}%"')
    data.append("END")
    return "\n".join(data) + f"""
set terminal svg noenhanced size 900,520 font "sans-serif,13" background "white"
set output out
set title "Kernel memory for the pin map"
set ylabel "percent of the pinned memory (logarithmic)"
set logscale y
set yrange [1e-5:100]
set format y "%g%%"
set xrange [-0.6:{len(rows) - 0.4}]
set grid ytics lc rgb "#dddddd"
set border 3
set bmargin 4
set xtics nomirror scale 0
set ytics nomirror
set key top right
set boxwidth 0.5
set style fill solid
plot $data using 1:3:xtic(2) with boxes lc rgb "#2f6292" title "task in a cgroup with pins.max", \\
     $data using 1:4:(0.25) with xerrorbars lw 2 pt 0 lc rgb "#c2410c" title "goal", \\
     $data using 1:5:6 with labels offset 0,0.7 font ",11" notitle
"""
