"""The cells of the pages, in a kernel of Jupyter whose stop button is pressed."""

import os
import re
import sys
import time

import pytest
from helpers import CORE_SWITCH, ROOT, TIMEOUT, until

PAGE = (ROOT / "docs/desktop.md").read_text(encoding="utf-8")
CELLS = re.findall(r'^```python title="a cell"\n(.*?)^```\n\n```text\n(.*?)^```', PAGE, re.M | re.S)


def test_there_are_cells():
    assert len(CELLS) == PAGE.count('title="a cell"') == 2


@pytest.mark.parametrize(("code", "output"), CELLS, ids=["with_threads", "that_awaits"])
@pytest.mark.filterwarnings("ignore")
def test_the_stop_button_ends_a_cell(core, code, output):
    manager_module = pytest.importorskip("jupyter_client.manager", reason="make ecosystem installs it")
    pytest.importorskip("ipykernel", reason="make ecosystem installs it")
    manager = manager_module.KernelManager(kernel_cmd=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    manager.start_kernel(env={**os.environ, **CORE_SWITCH[core]})
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=TIMEOUT)
        texts, failures = [], []

        def take(message):
            content = message["content"]
            {"stream": texts, "error": failures}.get(message["msg_type"], []).append(content)

        request = client.execute(code)
        until(lambda: client.get_iopub_msg(timeout=TIMEOUT)["msg_type"] == "execute_input")
        time.sleep(1)
        manager.interrupt_kernel()
        while True:
            message = client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == request:
                take(message)
                if message["content"].get("execution_state") == "idle":
                    break
        assert not failures and "".join(text["text"] for text in texts if text["name"] == "stdout") == output
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
