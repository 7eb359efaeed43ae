# SPDX-License-Identifier: GPL-2.0
"""What buffers that give way are good for, and what their first use costs."""

from tables import judge, table, wrap

HOWS = [("baseline", "unpatched"), ("pins", "never"), ("pins", "idle")]
MOVED = {"memory blocks": "memory blocks taken offline",
         "1 GB pages": "1 GB pages allocated"}
PHASES = ["undisturbed", "between", "moving"]


def size(n):
    for unit, name in (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"):
        if n >= unit:
            return f"{n // unit} {name}"
    return str(n)


def us(ns):
    return f"{ns / 1e3:.1f}" if ns else "-"


def ms(us_):
    return f"{us_ / 1e3:.1f}"


def report(runs):
    rows = {}
    for kernel, how in HOWS:
        for r in runs.get(kernel, []):
            if r.get("how") != how:
                continue
            key = how, r["scene"], r.get("buffer"), r.get("read")
            row = rows.setdefault(key, {"kernel": kernel, "how": how,
                                        "scene": r["scene"]})
            if "phase" in r:
                row[r["phase"]] = {k: r[k] for k in ("ios", "p50", "p99", "max")}
            else:
                row.update(r)
    rows = list(rows.values())
    return rows, text(rows), plot(rows)


def of(rows, scene):
    return [r for r in rows if r["scene"] == scene]


def all_of(row):
    return judge(row["tries"], row["had"]) if row["how"] == "idle" else ""


def text(rows):
    parts = ["64 rings with a registered buffer of 16 MB each, all over a node of 4 GB, of "
             "which 4 read 64 kB at a\ntime from a disk of 1 ms, while memory is wanted "
             "there ten times. Latencies in ms. One CPU, 1 ns for each\ninstruction, which "
             "migration needs as well"]
    for scene, what in MOVED.items():
        lines = []
        for r in of(rows, scene):
            line = [r["how"], f"{r['had']} of {r['tries']}", ms(r["us"]),
                    ms(r["longest us"]), str(r.get("repinned", "-"))]
            for phase in PHASES:
                p = r.get(phase)
                line += [ms(p["p50"]), ms(p["p99"]), ms(p["max"])] if p else ["-"] * 3
            quiet, between = r.get("undisturbed"), r.get("between")
            line.append(all_of(r))
            line.append(judge(between["p99"], 1.1 * quiet["p99"])
                        if r["how"] == "idle" and quiet and between else "")
            lines.append(line)
        if lines:
            parts.append(f"{what[0].upper()}{what[1:]}\n\n" + table(
                ["pins.revoke", "had", "each", "longest", "pages repinned",
                 "undisturbed: p50", "p99", "max", "between: p50", "p99", "max",
                 "meanwhile: p50", "p99", "max", "goal: all", "goal: p99 x 1.1"], lines))

    lines = [[r["how"], f"{r['had']} of {r['tries']}", us(r["use ns"]), us(r["anew ns"]),
              all_of(r)] for r in of(rows, "containers")]
    parts.append("Containers that register 32 MB each, below a limit for 8 of them, and read "
                 "64 kB one after the other.\nThe unpatched kernel has no limit\n\n" +
                 table(["pins.revoke", "used", "use, us", "register, use, unregister, us",
                        "goal: all"], lines))

    uses = of(rows, "first use")
    whole = {(r["how"], r["buffer"]): r["register ns"] for r in uses if "register ns" in r}
    lines = []
    for r in uses:
        if "read" not in r:
            continue
        extra = r["first ns"] - r["pinned ns"] if "first ns" in r else None
        goal = (whole.get((r["how"], 2 << 20))
                if r["buffer"] == 1 << 30 and r["read"] == 4 << 10 else None)
        lines.append([r["how"], size(r["buffer"]), size(r["read"]), us(r["pinned ns"]),
                      us(r.get("first ns")), us(extra), us(whole[r["how"], r["buffer"]]),
                      judge(extra, goal)])
    parts.append("The first read after a buffer has lost its pins, in microseconds\n\n" +
                 table(["pins.revoke", "buffer", "read", "pinned", "first", "more",
                        "register", "goal: 2 MB"], lines))
    return "\n\n".join(parts)


def plot(rows):
    """Above what is had, in the middle what reads take, below the first use."""
    wanted = list(MOVED) + ["containers"]
    labels = [*MOVED.values(), "containers that work"]
    data, success, latency = [], [], []
    hows = [how for _, how in HOWS if any(r["how"] == how for r in rows)]
    for i, how in enumerate(hows):
        mine = {r["scene"]: r for r in rows if r["how"] == how}
        data.append(f"$had{i} << END")
        data += [f'"{wrap(label)}" {100 * mine[s]["had"] / mine[s]["tries"]:.0f}'
                 for s, label in zip(wanted, labels) if s in mine]
        data += ["END", f"$took{i} << END"]
        data += [f'"{wrap(f"{what}, {name}")}" {mine[s][phase]["p99"] / 1e3:.2f}'
                 for s, what in MOVED.items() if s in mine
                 for phase, name in (("undisturbed", "before"), ("moving", "meanwhile"))
                 if phase in mine[s]]
        data.append("END")
        success.append(f'$had{i} using 2:xtic(1) lc {i + 1} title "{how}"')
        latency.append(f"$took{i} using 2:xtic(1) lc {i + 1} notitle")
    first = [r for r in rows if "first ns" in r]
    if not first:
        return None
    data.append("$first << END")
    data += [f'"{wrap(size(r["read"]) + " of " + size(r["buffer"]), 8)}" '
             f'{r["pinned ns"] / 1e3} {r["first ns"] / 1e3}' for r in first]
    data.append("END")
    return "\n".join(data) + f"""
set terminal svg noenhanced size 900,960 font "sans-serif,13" background "white"
set output out
set multiplot layout 3,1
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set grid ytics
set bmargin 4
set key outside right
set title "Memory that buffers lie in, and a limit for a few of them (unpatched: none): what succeeds"
set ylabel "percent"
set yrange [0:109]
plot {", ".join(success)}
set title "Reads into busy buffers there: of 100, 99 are faster than this (the disk alone: 1 ms)"
set ylabel "ms"
set yrange [0:*]
plot {", ".join(latency)}
set title "A read into a registered buffer: pinned, and the first after it gave way"
set logscale y
set yrange [1:*]
set ylabel "us, 1 ns per instruction"
set xtics font ",10"
plot $first using 2:xtic(1) title "pinned", "" using 3 title "first"
unset multiplot
"""
