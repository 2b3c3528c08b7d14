"""Plots as SVG that follow the reader's light or dark background: bars, and lines over logarithmic axes."""

from itertools import pairwise
from math import ceil, floor, log10
from xml.sax.saxutils import escape

STYLE = """
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0; fill: none }
.ours { fill: #0969da; stroke: #0969da }
.other { fill: #9aa4af; stroke: #9aa4af }
.line { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.quiet { fill: #9198a1 }
.grid { stroke: #3d444d }
.ours { fill: #4493f8; stroke: #4493f8 }
.other { fill: #767f8a; stroke: #767f8a }
}
"""
WIDTH = 480  # so narrow that the text can still be read where a phone shrinks it


def svg(title, subtitle, height, parts):
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            text(16, 26, title, "title"),
            text(16, 46, subtitle, "quiet"),
            *parts,
            "</svg>\n",
        )
    )


def text(x, y, content, style="", anchor="start"):
    style = f' class="{style}"' if style else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{style}>{escape(content)}</text>'


def bars(title, subtitle, groups, shown):
    """Draw groups of bars, each a label, a value, and whether it is ours; *shown* writes a value."""
    longest = max(value for group in groups for _, value, _ in group)
    left = 24 + max(7.6 * len(label) for group in groups for label, _, _ in group)
    y, parts = 62, []
    for group in groups:
        for label, value, ours in group:
            width = max(1.5, (WIDTH - left - 70) * value / longest)
            parts.append(text(left - 8, y + 15, label, anchor="end"))
            parts.append(
                f'<rect class="{"ours" if ours else "other"}" x="{left:.0f}" y="{y}" width="{width:.1f}" height="20"/>'
            )
            parts.append(text(left + width + 7, y + 15, shown(value)))
            y += 27
        y += 12
    return svg(title, subtitle, y, parts)


def lines(title, subtitle, series, shown, across):
    """Draw series of points (x, y) over logarithmic axes; *shown* writes a value of y, *across* is below the axis of x.

    A series is a name, its points, and whether it is ours. There are up to three of ours and of the others: the second
    is dashed, the third is dotted.
    """
    left, right, top, bottom = 70, WIDTH - 124, 66, 318
    xs = [x for _, points, _ in series for x, _ in points]
    ys = [y for _, points, _ in series for _, y in points]
    decades = range(floor(log10(min(ys))), ceil(log10(max(ys))) + 1)

    def at(x, y):
        return (
            left + (right - left) * log10(x / min(xs)) / log10(max(xs) / min(xs)),
            bottom - (bottom - top) * (log10(y) - decades[0]) / (decades[-1] - decades[0]),
        )

    parts, labels = [], []
    for decade in decades:
        _, y = at(min(xs), 10.0**decade)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(text(left - 8, y + 4, shown(10.0**decade), "quiet", "end"))
    for x in sorted(set(xs)):
        parts.append(text(at(x, ys[0])[0], bottom + 20, f"{x:,}", "quiet", "middle"))
    parts.append(text((left + right) / 2, bottom + 42, across, "quiet", "middle"))
    seen = {True: 0, False: 0}
    for name, points, ours in series:
        style, dash = "ours" if ours else "other", ("", ' stroke-dasharray="6 4"', ' stroke-dasharray="2 4"')[seen[ours]]
        seen[ours] += 1
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<path class="{style} line" style="fill:none"{dash} d="M{path}"/>')
        x, y = at(*points[-1])
        if x < right:  # before the other lines
            parts.append(text(x - 8, y - 6, name, anchor="end"))
        else:
            labels.append([y, name])
    labels.sort()
    for above, label in pairwise(labels):
        label[0] = max(label[0], above[0] + 16)  # no label over another
    parts += [text(right + 8, y + 4, name) for y, name in labels]
    return svg(title, subtitle, bottom + 58, parts)
