# SPDX-License-Identifier: GPL-2.0
"""Text tables, labels of plots, and what the reports say about goals."""

import textwrap


def table(head, rows):
    """Columns by their widest cell; the first to the left, numbers right."""
    lines = [head] + rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def show(line):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        return "  ".join(cells).rstrip()

    rule = "-" * len(show(["x" * width for width in widths]))
    return "\n".join([show(head), rule] + [show(row) for row in rows])


def judge(value, goal, aim=None):
    """Whether a value that should be small is small enough."""
    if value is None or goal is None:
        return ""
    if value > goal:
        return "missed"
    if aim is not None and value <= aim:
        return "reached, also the aim"
    return "reached"


def wrap(label, width=20):
    """In lines, as gnuplot wants them; a number stays with its unit."""
    for unit in "kB", "MB":
        label = label.replace(f" {unit}", f"\N{NO-BREAK SPACE}{unit}")
    return "\\n".join(textwrap.wrap(label, width))
