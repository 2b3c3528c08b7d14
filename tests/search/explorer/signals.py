"""A signal handler at every place in a call where the interpreter may run one."""

import dis
import sys
from functools import cache
from itertools import count
from types import CodeType

from explorer.run import explore
from explorer.shared import FILES, Interrupted, current


def explore_interrupts(core, call, handler, *threads, **options):
    """Explore *call* and the *threads*, with *handler* run inside *call* as by a signal, at every place where that may happen.

    Return in how many places that is, and the number of schedules. A run where *call* ends before counts as one more place.
    *core* was loaded with `watch`.
    """
    return at_every_place(call, handler, lambda interrupted: explore(core, interrupted, *threads, **options))


def at_every_place(call, handler, explore):
    """Do the same for what *explore(interrupted)* explores. Its code was given to `watch`."""
    schedules = 0
    for place in count():
        fired = []

        def interrupted(run, place=place, fired=fired):
            run.interrupts[run.current] = _Interrupt(place, lambda: (fired.append(place), handler(run)))
            if sys.version_info < (3, 12):
                sys.settrace(_trace)
            try:
                call(run)
            except Interrupted:
                pass

        schedules += explore(interrupted)
        if not fired:
            return place, schedules


# After these the interpreter looks whether there are signals, and at the start of a function
_LOOKS = ("CALL", "RESUME", "JUMP_ABSOLUTE", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
if sys.version_info < (3, 11):
    _LOOKS += ("POP_JUMP",)


# After a call of a Python function, the interpreter does not look again
_NOT_AFTER_A_RETURN = sys.version_info >= (3, 11)


@cache
def _names(code):
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


class _Interrupt:
    """A signal that comes to a thread at the *place*-th opportunity from here on: in the core, or while it is blocked."""

    def __init__(self, place, handler):
        self.left = place
        self.handler = handler
        self.before = {}  # the instruction that ran last, by frame
        self.frame = None  # the frame that ran last

    def opportunity(self):
        self.left -= 1
        if self.left == -1:
            self.handler()

    def instruction(self, frame, offset):
        previous, self.before[frame] = self.before.get(frame), _names(frame.f_code)[offset]
        has_returned, self.frame = frame is not self.frame, frame
        if previous is None or (previous.startswith(_LOOKS) and not (has_returned and _NOT_AFTER_A_RETURN)):
            self.opportunity()


def _trace(frame, kind, _):
    if frame.f_code.co_filename not in FILES or current.run is None or current.run.current is None:
        return None
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    if kind == "opcode":
        current.run.interrupts[current.run.current].instruction(frame, frame.f_lasti)
    return _trace


def _monitor(code, offset):
    if current.run and current.run.current in current.run.interrupts:
        current.run.interrupts[current.run.current].instruction(sys._getframe(1), offset)


def watch(code):
    """Have `_monitor` called for every instruction of this code and of what is defined in it."""
    if sys.version_info >= (3, 12):
        sys.monitoring.set_local_events(_TOOL, code, sys.monitoring.events.INSTRUCTION)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                watch(constant)


def watch_function(function):
    """Do the same for a *function* that was not loaded by `load()`."""
    FILES.add(function.__code__.co_filename)
    watch(function.__code__)


# Where there is sys.monitoring, which instructions a trace function sees depends on what ran before: a schedule has no replay
_TOOL = 4
if sys.version_info >= (3, 12):
    sys.monitoring.use_tool_id(_TOOL, __name__)
    sys.monitoring.register_callback(_TOOL, sys.monitoring.events.INSTRUCTION, _monitor)
