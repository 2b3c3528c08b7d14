"""Draw the pictures that explain events: `python docs/pictures.py` writes them to docs/img."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from plots import WIDTH, svg, text  # noqa: E402

STYLE = """<style>
.box { fill: #d1d9e0; fill-opacity: .3; stroke: #59636e }
.on { fill: #0969da; fill-opacity: .16; stroke: #0969da }
.edge { fill: none; stroke: #59636e; stroke-width: 1.5 }
.dots { stroke-dasharray: 2 4 }
.tip { fill: #59636e }
.mark { stroke: #0969da; stroke-width: 2.5; fill: none }
.bold { font-weight: 600 }
@media (prefers-color-scheme: dark) {
.box { fill: #3d444d; stroke: #9198a1 }
.on { fill: #4493f8; stroke: #4493f8 }
.edge { stroke: #9198a1 }
.tip { fill: #9198a1 }
.mark { stroke: #4493f8 }
}
</style>
<marker id="tip" class="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
<path d="M0 0 8 4 0 8z"/></marker>"""


def picture(title, subtitle, height, parts):
    return svg(title, subtitle, height, [STYLE, *parts])


def box(x, y, width, height, lines=(), style="box", radius=6):
    """Draw a box with *lines* of text in its middle, the first one bold."""
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    return "\n".join(
        [
            f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"/>',
            *(
                text(x + width / 2, first + 18 * row, line, "quiet" if row else "bold", "middle")
                for row, line in enumerate(lines)
            ),
        ]
    )


def arrow(path, style="edge", both=False):
    start = ' marker-start="url(#tip)"' if both else ""
    return f'<path class="{style}" d="{path}" marker-end="url(#tip)"{start}/>'


def states():
    left, right, rows = 128, 284, (66, 186, 306)
    parts = [
        box(16, 66, left - 16, 322, ["unset", "is_set(): False", "check(): None"]),
        box(right, rows[0], WIDTH - 16 - right, 82, ["set", "is_set(): True", "check(): EventCancelled"], "on"),
        box(right, rows[1], WIDTH - 16 - right, 82, ["timed out, unset", "is_set(): False", "check(): EventTimeout"]),
        box(right, rows[2], WIDTH - 16 - right, 82, ["set by its timeout", "is_set(): True", "check(): EventTimeout"], "on"),
        arrow(f"M374 {rows[1] - 2}V{rows[0] + 86}"),
        text(382, rows[1] - 14, "set()"),
    ]
    for y, call in zip(rows, ["set(reason)", "the timeout passes", "the timeout passes"], strict=True):
        parts += [
            text((left + right) / 2, y + 18, call, anchor="middle"),
            arrow(f"M{left + 2} {y + 28}H{right - 3}"),
            arrow(f"M{right - 2} {y + 58}H{left + 3}", "edge dots"),
            text((left + right) / 2, y + 75, "clear()", "quiet", "middle"),
        ]
    parts.append(text((left + right) / 2, rows[2] + 1, "set_on_timeout=True:", "quiet", "middle"))
    return picture("The states of an event", "check_timeout() asks the clock alone, set or unset", 404, parts)


def timeline():
    rows = ("is_set()", "timeout", "check_timeout()", "wait()")
    left, second, top, row = 126, 37, 126, 40
    calls = [(0, "Event(timeout=3)", 0), (2, "restart_timeout()", 1), (4, "set()", 2), (5, "clear()", 2)]
    end = 9

    def at(seconds):
        return left + second * seconds

    def y(number):
        return top + row * number

    def bar(number, start, stop, label, style="box"):
        middle = text(at((start + stop) / 2), y(number) + 16, label, "", "middle")
        return box(at(start), y(number), round(second * (stop - start), 1), 22, (), style, 3) + middle

    parts = [text(left - 10, y(number) + 16, label, anchor="end") for number, label in enumerate(rows)]
    for seconds, call, line in calls:
        parts.append(text(at(seconds), 70 + 18 * line, call))
        gaps = [f"M{at(seconds)} {76 + 18 * line}V{top}", *(f"M{at(seconds)} {y(number) + 24}v14" for number in range(4))]
        parts.append(f'<path class="edge" d="{"".join(gaps)}"/>')
    parts += [
        bar(0, 0, 4, "False"),
        bar(0, 4, 5, "True", "on"),
        bar(0, 5, end, "False"),
        bar(1, 0, 2, "3 s", "box"),
        bar(1, 2, 5, "3 s from then"),
        bar(1, 5, 8, "3 s again"),
        f'<path class="mark" d="M{at(8)} {y(1) - 4}v30"/>',
        bar(2, 0, 8, "False"),
        bar(2, 8, end, "True", "on"),
        bar(3, 0.6, 4, "waits, returns True", "on"),
        bar(3, 5.4, 8, "returns False"),
        f'<path class="edge" d="M{left} {y(4)}H{at(end)}" marker-end="url(#tip)"/>',
        *(text(at(seconds), y(4) + 18, str(seconds), "quiet", "middle") for seconds in range(9)),
        text(left - 10, y(4) + 18, "seconds", "quiet", "end"),
    ]
    return picture("One event in time", "restart_timeout() and clear() start the timeout again", y(4) + 32, parts)


def tree():
    nodes = {  # where it stands, and as which number it is set
        "shutdown": (240, 84, None),
        "job": (158, 154, 1),
        "another job": (380, 154, None),
        "page 1": (96, 224, 2),
        "page 2": (260, 224, 3),
        "image": (56, 294, 4),
        "text": (152, 294, 5),
        "table": (260, 294, 6),
    }
    links = "shutdown>job shutdown>another_job job>page_1 job>page_2 page_1>image page_1>text page_2>table"
    parts = []
    for parent, child in (link.replace("_", " ").split(">") for link in links.split()):
        (x, y, _), (to_x, to_y, number) = nodes[parent], nodes[child]
        path = f"M{x} {y + 17}L{to_x} {to_y - 19}"
        parts.append(f'<path class="edge dots" d="{path}"/>' if parent == "shutdown" else arrow(path))
    for name, (x, y, number) in nodes.items():
        width = 44 + 7 * len(name)
        label, style = (f"{number}  {name}", "on") if number else (name, "box")
        parts.append(box(x - width / 2, y - 17, width, 34, [label], style, 17))
    parts += [arrow("M20 154H122"), text(20, 146, "set(reason)")]
    parts += [text(322, 220, "shutdown and", "quiet"), text(322, 238, "another job stay unset", "quiet")]
    steps = [("flags, waiting threads", "1 2 3 4 5 6"), ("tasks, descriptors", "1 2 3 4 5 6"), ("callbacks", "1 2 3 4 5 6")]
    widths, x = (168, 142, 98), 16
    for (what, numbers), width in zip(steps, widths, strict=True):
        parts.append(box(x, 346, width, 52, [what, numbers]))
        x += width + 20
        if x < WIDTH - 16:
            parts.append(arrow(f"M{x - 19} 372h17"))
    return picture("What one set() reaches", "breadth first; when it returns, all of it is set", 414, parts)


def borders():
    parts = [
        box(8, 62, 464, 226, (), "box", 10),
        text(22, 82, "a machine", "quiet"),
        box(20, 92, 292, 184, (), "box", 10),
        text(34, 110, "a process", "quiet"),
        box(330, 92, 130, 184, (), "box", 10),
        text(340, 110, "another process", "quiet"),
        box(126, 166, 80, 36, ["Event"], "on", 18),
        box(32, 124, 80, 30, ["threads"]),
        box(220, 124, 80, 30, ["tasks"]),
        box(32, 214, 80, 30, ["signals"]),
        box(220, 214, 80, 30, ["selectors"]),
        arrow("M112 146 138 164", both=True),
        arrow("M220 146 194 164", both=True),
        arrow("M112 222 138 204"),
        arrow("M194 204 220 222"),
        text(32, 262, "set_on_signals()", "quiet"),
        text(300, 262, "fileno()", "quiet", "end"),
        box(355, 166, 80, 36, ["Event"], "on", 18),
        arrow("M208 184H353", both=True),
        text(395, 222, "SharedEvent", "quiet", "middle"),
        box(8, 350, 464, 72, (), "box", 10),
        text(22, 370, "another machine", "quiet"),
        box(126, 372, 80, 36, ["Event"], "on", 18),
        arrow("M166 204V370", both=True),
        text(176, 324, "RedisEvents", "quiet"),
    ]
    return picture("One event across every border", "set on one side, it is set on the other, for the same reason", 438, parts)


PICTURES = {"states": states, "timeline": timeline, "tree": tree, "borders": borders}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / "img" / f"{name}.svg").write_text(draw(), encoding="utf-8")
