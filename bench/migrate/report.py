# SPDX-License-Identifier: GPL-2.0
"""How often memory was moved that a device uses, and what it costs to leave it alone."""

from tables import judge, table

KERNELS = [("baseline", "unpatched"), ("pins", "patched")]
WANTED = 480


def report(runs):
    rows = [{"kernel": kernel, **r} for kernel, _ in KERNELS
            for r in runs.get(kernel, []) if "how" in r or "others" in r]
    return rows, text(rows), None


def text(rows):
    names = dict(KERNELS)
    lines = []
    for r in rows:
        if "how" not in r:
            continue
        patched = r["kernel"] == "pins"
        lines.append([
            f"{names[r['kernel']]}, {r['how']}", str(r["faults"]), str(r["elsewhere"]),
            *(str(r[key]) if patched else "-"
              for key in ("compact", "numa", "collapse", "usec", "held off")),
            f"{r['longest ns'] / 1e3:.0f}",
            judge(r["faults"], 0) if r["how"] == "needed" else ""])
    parts = ["16,384 pages all over a node where their task does not run, while compaction, "
             "khugepaged and NUMA balancing are busy: how often a device that mirrors page "
             "tables has to fault, and pages found elsewhere\n\n" + table(
                 ["memory", "faults", "elsewhere", "by compaction", "NUMA", "khugepaged",
                  "us", "held off", "longest access, us", "goal: 0"], lines)]
    lines = [[f"{r['percent']}%, {'scattered' if r['scattered'] else 'in one piece'}",
              f"{names[r['kernel']]}, {r['others']}", f"{r['hugetlb']} of {WANTED}",
              f"{r['compact ns'] / 1e6:.1f}"]
             for r in rows if "others" in r]
    parts.append("What it costs others: so much of a node of 1 GB stays, the rest is free, "
                 "and huge pages are asked for\n\n" + table(
                     ["of the node", "memory", "hugetlb", "compaction ms"], lines))
    return "\n\n".join(parts)
