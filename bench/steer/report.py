# SPDX-License-Identifier: GPL-2.0
"""What scattered pins cost in huge pages, and what it costs to steer them."""

from tables import judge, table, wrap

HOWS = [("baseline", "unpatched"), ("pins", "zone"), ("pins", "block")]
WANTED = 420
PER_BLOCK = 512


def report(runs):
    rows, costs = [], []
    for kernel, how in HOWS:
        for r in runs.get(kernel, []):
            if r.get("how") == how:
                rows.append({"kernel": kernel, **r})
            elif r.get("cost") in (how, "move_pages"):
                costs.append({"kernel": kernel, **r})
    return rows + costs, text(rows, costs), plot(rows)


def ms(ns):
    return f"{ns / 1e6:.1f}"


def text(rows, costs):
    lines = []
    for r in rows:
        packed = -(-r["pages"] // PER_BLOCK)
        steered = r["how"] == "block" and r["pages"]
        lines.append([
            r["layout"], r["how"], f"{r['hugetlb']} of {WANTED}", str(r["thp"]),
            str(r["blocks"]), str(r["new"]), str(packed),
            f"{r['register ns'] / r['pages']:.0f}" if r["pages"] else "-",
            ms(r["compact ns"]), ms(r["hugetlb ns"]),
            judge(0.995 * WANTED, r["hugetlb"]) if steered else "",
            judge(r["new"], 1.2 * packed) if steered else ""])
    parts = ["Buffers registered among 700 MB of used memory on a node of 1 GB; then the "
             "rest is freed, and huge pages are asked for. One CPU, 1 ns for each "
             "instruction",
             table(["buffers", "pins.steer", "hugetlb", "THP", "blocks with pins",
                    "made unmovable", "packed", "ns a page", "compaction ms",
                    "hugetlb ms", "goal: 99.5%", "1.2 x packed"], lines)]
    lines = []
    for per in sorted({r["per request"] for r in costs}):
        mine = {(r["kernel"], r["cost"]): r["ns"] for r in costs
                if r["per request"] == per}
        move = mine.get(("pins", "move_pages"))
        steered = mine.get(("pins", "block"))
        ratio = steered / move if move and steered else None
        lines.append([str(per)] + [str(mine.get(key, "-")) for key in (
            ("baseline", "unpatched"), ("pins", "zone"), ("pins", "block"),
            ("pins", "move_pages"))] +
            [f"{ratio:.2f}" if ratio else "-", judge(ratio, 1.5)])
    parts.append("What that costs: instructions a page to pin and register it, or to "
                 "move it by move_pages(2)\n\n" + table(
                     ["pages in a request", "unpatched", "zone", "block", "move_pages",
                      "block / move_pages", "goal: 1.5"], lines))
    return "\n\n".join(parts)


def plot(rows):
    layouts = list(dict.fromkeys(r["layout"] for r in rows))
    if not layouts:
        return None
    data, plots = [], []
    for i, (kernel, how) in enumerate(HOWS):
        mine = {r["layout"]: r for r in rows if (r["kernel"], r["how"]) == (kernel, how)}
        if not mine:
            continue
        data.append(f"$how{i} << END")
        data += [f'"{wrap(name, 14)}" {mine[name]["hugetlb"]}'
                 for name in layouts if name in mine]
        data.append("END")
        title = how if kernel == "baseline" else f"pins.steer {how}"
        plots.append(f'$how{i} using 2:xtic(1) lc {i + 1} title "{title}"')
    return "\n".join(data) + f"""
set terminal svg noenhanced size 900,420 font "sans-serif,13" background "white"
set output out
set title "Huge pages left after small buffers were pinned all over memory"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set grid ytics
set ylabel "huge pages of 2 MB, of {WANTED}"
set yrange [0:{WANTED + 20}]
set key outside below
plot {", ".join(plots)}
"""
