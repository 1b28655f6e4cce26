# SPDX-License-Identifier: Apache-2.0
"""Draws the rows of run.py as SVG. For each bench one picture, in which each subject is a group of bars with a scale of its own: ours, and
whatever it was measured against in the same run; a thin line over our bar goes from min to max. And the pictures of PICTURES: chosen groups
and curves, for the README.

Plain SVG with its own light ground, so that it looks the same wherever it is shown; the same rows give the same bytes.
"""
import math
import re
from html import escape
from pathlib import Path

WIDTH, LEFT, RIGHT, BAR, GAP, GROUP = 860, 250, 150, 15, 4, 16
OURS, PEER, LIMIT, INK, FAINT = "#0b7a75", "#b8bec9", "#e0a458", "#1f2933", "#6b7785"
LIMITS = ("line", "bound", "memcpy", "copied", "tick", "frames x")  # names of physical limits, which nobody beats


def short(value):
    """Three digits that count."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == ' k' else size):.3g}{letter}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def svg(width, height, title, note, body):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">\n<rect width="100%" height="100%" fill="#fbfbf9"/>\n'
            f'<text x="20" y="26" font-size="17" font-weight="600">{escape(title)}</text>\n<text x="20" y="44" fill="{FAINT}">{escape(note)}</text>')
    return "\n".join([head, *body, "</svg>"]) + "\n"


def groups_of(rows):
    """[(subject, unit, [(name, value, low, high, kind)])] in the order of the rows; subjects without a comparison are left out."""
    found = {}
    for row in rows:
        if row["value"] is None:
            continue
        bars = found.setdefault((row["subject"], row["unit"]), {})
        bars.setdefault("tallycast", (row["value"], row.get("min"), row.get("max"), OURS))
        if row["against"] and row["against_value"] is not None:
            kind = LIMIT if any(word in row["against"] for word in LIMITS) else PEER
            bars[row["against"]] = (row["against_value"], None, None, kind)
    return [(subject, unit, [(name, *bar) for name, bar in bars.items()]) for (subject, unit), bars in found.items() if len(bars) > 1]


def bars_svg(title, note, groups):
    """The picture's text."""
    out, y = [], 64
    scale = WIDTH - LEFT - RIGHT
    for subject, unit, bars in groups:
        most = max(max(bar[1], bar[3] or 0) for bar in bars) or 1
        out.append(f'<text x="20" y="{y + 4}" font-weight="600">{escape(subject)}</text>')
        y += GROUP
        for name, value, low, high, colour in bars:
            length = max(1.0, value / most * scale)
            middle = y + BAR / 2
            out.append(f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="{INK if colour == OURS else FAINT}">{escape(name)}</text>')
            out.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
            end = length
            if low is not None and high is not None and high > low:
                end = max(length, high / most * scale)
                out.append(f'<path d="M{LEFT + low / most * scale:.1f} {middle}H{LEFT + end:.1f}" stroke="{INK}" stroke-width="1"/>')
            out.append(f'<text x="{LEFT + end + 6:.1f}" y="{middle + 4:.1f}" fill="{INK if colour == OURS else FAINT}">{short(value)} {escape(unit)}</text>')
            y += BAR + GAP
        y += GROUP
    return svg(WIDTH, y, title, note, out)


def curves_svg(title, note, unit, series):
    """{name: [(x, y)]} on two logarithmic scales, whole decades."""
    width, height, left, top, right, bottom = 860, 420, 80, 64, 170, 50
    points = [point for line in series.values() for point in line]
    low_x, high_x = (edge(math.log10(pick(x for x, _ in points))) for edge, pick in ((math.floor, min), (math.ceil, max)))
    low_y, high_y = (edge(math.log10(pick(y for _, y in points))) for edge, pick in ((math.floor, min), (math.ceil, max)))

    def at(x, y):
        return (left + (math.log10(x) - low_x) / max(1, high_x - low_x) * (width - left - right),
                height - bottom - (math.log10(y) - low_y) / max(1, high_y - low_y) * (height - top - bottom))

    out = []
    for decade in range(low_x, high_x + 1):
        x, y = at(10.0 ** decade, 10.0 ** low_y)
        out.append(f'<path d="M{x:.1f} {top}V{y:.1f}" stroke="#e3e6ea"/><text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="{FAINT}">{short(10.0 ** decade)}</text>')
    for decade in range(low_y, high_y + 1):
        x, y = at(10.0 ** low_x, 10.0 ** decade)
        out.append(f'<path d="M{x:.1f} {y:.1f}H{width - right}" stroke="#e3e6ea"/><text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="{FAINT}">{short(10.0 ** decade)}</text>')
    out.append(f'<text x="20" y="{height - 12}" fill="{FAINT}">{escape(unit)}</text>')
    colours = [OURS, "#c2543d", "#4a6fa5", LIMIT, "#7d5ba6", INK]
    for (name, line), colour in zip(series.items(), colours):
        path = "L".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in line)
        x, y = at(*line[-1])
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/><text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
        out += [f'<circle cx="{at(*point)[0]:.1f}" cy="{at(*point)[1]:.1f}" r="3" fill="{colour}"/>' for point in line]
    return svg(width, height, title, note, out)


# file -> (title, bench, subjects): groups of bars; or with a unit as fourth: subjects give the curve's name by (?P<name>) and x by (?P<x>).
PICTURES = {
    "reads": ("A read of 10M 8-byte keys, in C", "mirror", r"(dependent|independent) read, 10M keys"),
    "bytes": ("What a changed count takes on the wire", "wire", r"frame bytes a change, .*% of"),
    "apply-time": ("What a change costs, by how many a version has", "mirror", r"apply (?P<x>\d+) of (?P<name>\S+ keys)$",
                   "across: changes of a version; up: ns a change"),
    "apply-copied": ("What a change copies, by how many a version has", "mirror", r"apply (?P<x>\d+) of (?P<name>\S+ keys): copied$",
                     "across: changes of a version; up: bytes a change"),
}


def picture(rows, note, title, bench, subjects, unit=None):
    """One of PICTURES as text; None when the rows have nothing of it."""
    rows = [row for row in rows if row["bench"] == bench and row["value"] and re.match(subjects, row["subject"])]
    if not unit:
        groups = groups_of(rows)
        return bars_svg(title, note, groups) if groups else None
    series = {}
    for row in rows:
        found = re.match(subjects, row["subject"])
        series.setdefault(found["name"], {})[float(found["x"])] = row["value"]
    series = {name: sorted(points.items()) for name, points in series.items() if len(points) > 1}
    return curves_svg(title, note, unit, series) if series else None


def draw(rows, folder, note):
    """Writes FOLDER/BENCH.svg for each bench with something to compare, and PICTURES; gives the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {bench: (bench, bench, "") for bench in dict.fromkeys(row["bench"] for row in rows)} | PICTURES
    for name, what in pictures.items():
        text = picture(rows, note, *what)
        if text:
            (folder / f"{name}.svg").write_text(text, encoding="utf-8")
