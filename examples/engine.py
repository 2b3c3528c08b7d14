"""A workflow of the engine, cancelled by hand or by the timeout of the event; needs `pip install ddeutil-workflow`.

python examples/engine.py                  # set() after two seconds
python examples/engine.py --timeout 1      # the event is set at its deadline
python examples/engine.py --leave-alone    # it ends by itself, after some six seconds
"""

import argparse
import tempfile
import threading
from pathlib import Path

from ddeutil.workflow import Workflow
from fastevent import Event

PIPELINE = """
long-running-pipeline:
  type: Workflow
  params: {batch_size: int}
  jobs:
    load:
      stages:
        - name: batches
          foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
          stages:
            - {name: batch, run: "import time; time.sleep(0.6)"}
    report:
      needs: [load]
      stages:
        - {name: said, echo: "batches of ${{ params.batch_size }} are loaded"}
"""


def execute(folder, cancel, results):
    workflow = Workflow.from_conf("long-running-pipeline", extras={"conf_path": folder})
    results.append(workflow.execute(params={"batch_size": 10000}, event=cancel))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, help="seconds, after which the event is set")
    parser.add_argument("--leave-alone", action="store_true")
    options = parser.parse_args()

    cancel = Event(options.timeout, set_on_timeout=options.timeout is not None)  # the engine calls is_set() only
    results = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pipeline.yml").write_text(PIPELINE)
        thread = threading.Thread(target=execute, args=(Path(folder), cancel, results))
        thread.start()
        if options.timeout is None and not options.leave_alone:
            thread.join(2)
            cancel.set("the user pressed stop")
        thread.join()
    print(f"{results[0].status.name}: {cancel.reason}")


if __name__ == "__main__":
    main()
