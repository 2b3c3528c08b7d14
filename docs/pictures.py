"""The pictures that explain, and the logo: `python docs/pictures.py` writes them to `docs/img`."""

from pathlib import Path

IMG = Path(__file__).parent / "img"
STYLE = """<style>
text { font: 14px sans-serif; fill: #222 } .small { font-size: 12px; fill: #555 } .box { fill: #e0f2f1; stroke: #00796b }
.line { stroke: #555; fill: none; marker-end: url(#tip) } .plain { stroke: #555; fill: none } .tip { fill: #555 } .on { fill: #00796b }
@media (prefers-color-scheme: dark) {
text { fill: #eee } .small { fill: #bbb } .box { fill: #123a37; stroke: #4db6ac } .line, .plain { stroke: #aaa } .tip { fill: #aaa }
.on { fill: #4db6ac } }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>"""


def picture(width, height, title, *parts):
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return f"{head}\n<title>{title}</title>\n{STYLE}\n{body}\n</svg>\n"


def box(x, y, text, small="", width=130, height=46):
    lines = f'<text x="{x}" y="{y + (0 if small else 5)}" text-anchor="middle">{text}</text>'
    if small:
        lines += f'<text class="small" x="{x}" y="{y + 16}" text-anchor="middle">{small}</text>'
    return f'<rect class="box" x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="8"/>{lines}'


def arrow(path, text="", x=0, y=0, anchor="middle"):
    label = f'<text class="small" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' if text else ""
    return f'<path class="line" d="{path}"/>{label}'


def text(x, y, words, kind="small", anchor="middle"):
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def states():
    return picture(
        640, 230, "The states of an event",
        box(110, 60, "unset", "in time"), box(110, 180, "unset", "timed out"), box(520, 60, "set", "reason: set(reason)", 160),
        box(520, 180, "set", "reason: EventTimeout", 160),
        arrow("M178 50H436", "set()", 307, 43), arrow("M436 72H178", "clear(): the timeout starts anew", 307, 88),
        arrow("M110 86V154", "the timeout passes", 118, 125, "start"),
        arrow("M176 78 436 166", "the deadline, if self-setting", 330, 124, "start"),
        arrow("M178 176H330Q400 176 438 84", "set()", 300, 170), arrow("M70 154V86", "clear()", 62, 125, "end"),
    )  # fmt: skip


def time_line():
    def bar(x, y, width, words):
        return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="24" rx="4"/>' + text(x + width / 2, y + 17, words)

    marks = [(60, "Event(5)"), (210, "restart_timeout()"), (400, "set()"), (500, "clear()")]
    return picture(
        680, 210, "Timeout, set, clear, restart_timeout and wait over time",
        arrow("M30 180H660"), text(650, 200, "time"),
        *(f'<path class="plain" d="M{x} 30V180"/>' + text(x, 22, words) for x, words in marks),
        text(24, 61, "", "small"), bar(60, 44, 150, "5 s run"), bar(210, 44, 190, "5 s run anew"), bar(500, 44, 140, "5 s run anew"),
        bar(400, 84, 100, "flag is True"), bar(110, 124, 290, "wait() … True"), bar(530, 124, 110, "wait() …"),
    )  # fmt: skip


def tree():
    return picture(
        640, 250, "A tree of events, and the order in which set() notifies it",
        box(160, 40, "shutdown", "1"), box(80, 130, "job A", "2"), box(240, 130, "job B", "3"), box(80, 215, "part", "4"),
        arrow("M140 64 96 104"), arrow("M180 64 224 104"), arrow("M80 154V190"),
        text(350, 40, "1. flag and reason of the event", anchor="start"), text(350, 68, "2. its threads in wait()", anchor="start"),
        text(350, 96, "3. its children, then theirs, each with its waiters", anchor="start"),
        text(350, 124, "4. tasks, descriptors, wait_any() and wait_all()", anchor="start"),
        text(350, 152, "5. callbacks, in the order in which they were added", anchor="start"),
    )  # fmt: skip


def borders():
    around = [
        (110, 50, "threads", "wait(), is_set()"), (330, 36, "signals", "set_on_signals()"), (550, 50, "tasks", "async with, await"),
        (110, 210, "descriptors", "fileno(), select"), (330, 224, "processes", "SharedEvent"), (550, 210, "machines", "RedisEvents"),
    ]  # fmt: skip
    ends = [(176, 66), (330, 60), (484, 66), (176, 194), (330, 200), (484, 194)]
    starts = [(268, 112), (330, 106), (392, 112), (268, 148), (330, 154), (392, 148)]
    return picture(
        660, 260, "The borders that an event crosses",
        *(arrow(f"M{x} {y} {u} {v}") for (x, y), (u, v) in zip(starts, ends, strict=True)),
        box(330, 130, "event.set(reason)", width=150), *(box(x, y, name, how, 140) for x, y, name, how in around),
    )  # fmt: skip


LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img" aria-label="fastevent">
<title>fastevent</title>
<circle cx="32" cy="32" r="30" fill="#00796b"/>
<path d="M22 52V12" stroke="#fff" stroke-width="5" stroke-linecap="round"/>
<path d="M24 14h24l-8 9 8 9H24z" fill="#ffca28"/>
</svg>
"""

PICTURES = {
    "states": states(), "timeline": time_line(), "tree": tree(), "borders": borders(), "logo": LOGO,
}  # fmt: skip

if __name__ == "__main__":
    for name, drawn in PICTURES.items():
        (IMG / f"{name}.svg").write_text(drawn, "utf-8")
