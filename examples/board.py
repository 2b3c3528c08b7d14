"""A live board of a few hundred events in the terminal; needs `pip install rich`.

python examples/board.py [SECONDS]
"""

import random
import sys
import threading

from rich.live import Live
from rich.table import Table

from fastevent import Event

JOBS, GROUPS = 300, 10


def work(job):
    """Stand for a job: it ends at a random moment."""
    job.wait(random.uniform(0, 12))
    job.set("done")


def board(root, groups):
    status = root.status()
    table = Table(title=f"{status.children} groups, {status.remaining:.1f} s of {status.timeout:g} s left", expand=True)
    for heading in ("group", "state", "jobs", "running", "done", "timed out", "cancelled", "left"):
        table.add_column(heading, justify="left" if heading in {"group", "state"} else "right")
    for group, jobs in groups.items():
        states = [job.status() for job in jobs]
        ended = [str(state.reason) for state in states if state.is_set]
        done, timed_out = ended.count("done"), sum(text.startswith("timed out") for text in ended)
        state = group.status()
        table.add_row(
            state.name,
            f"set: {state.reason}" if state.is_set else "running",
            str(state.children),
            str(len(states) - len(ended)),
            str(done),
            str(timed_out),
            str(len(ended) - done - timed_out),
            f"{state.remaining:.1f} s",
        )
    return table


def main(seconds):
    with Event(seconds) as root:
        groups = {}
        for number in range(GROUPS):
            group = root.child(round(random.uniform(0.3, 1) * seconds, 1), name=f"group {number}")
            groups[group] = jobs = [group.child(random.randint(1, 10)) for _ in range(JOBS // GROUPS)]
            for job in jobs:
                threading.Thread(target=work, args=(job,), daemon=True).start()
        with root.set_on_signals(), Live(board(root, groups), refresh_per_second=10) as live:
            for _ in root.ticks():
                live.update(board(root, groups))
            live.update(board(root, groups))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
