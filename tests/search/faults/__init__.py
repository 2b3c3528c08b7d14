"""What goes wrong around an event: each fault as a program, for any class with the methods of `threading.Event`.

    python tests/search/faults NAME [MODULE:CLASS [SCALE]]

runs one in this interpreter: exit code 0 and nothing printed if the event passed. Some faults hang or crash what is not made
for them, so each runs in a process of its own, with a limit: `test_faults.py` runs all of them over both cores, `make faults`
over the peers, too. SCALE multiplies what a fault does often; 1 is what the tests take.
"""

from faults import ends, forks, memory, races, signals, times  # noqa: F401  # each adds its own to FAULTS
from faults.common import FAULTS, FLAT, resident
from faults.processes import PROCESS_FAULTS

__all__ = ["FAULTS", "FLAT", "PROCESS_FAULTS", "resident"]
