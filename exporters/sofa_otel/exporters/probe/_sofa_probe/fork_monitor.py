"""``sys.monitoring`` tool ids, and a one-shot event that runs something at the next Python call (Python 3.12 and later)."""

import sys

TOOLS = (3, 4)
"""0 to 2 and 5 are promised to debuggers, coverage, profilers and optimisers."""


def free_tool(candidates):
    """First tool id that nobody uses, None when all are taken."""
    get = sys.monitoring.get_tool
    return next((number for number in candidates if get(number) is None), None)


def at_next_call(action):
    """Call ``action`` once, soon, outside of the current C call. False where no tool id is free."""
    monitoring = sys.monitoring
    tool = free_tool(reversed(TOOLS))
    if tool is None:
        return False
    events = monitoring.events
    wanted = (events.PY_START, events.PY_RETURN, events.PY_RESUME, events.JUMP, events.CALL)
    done = []

    def fire(*_):
        if not done:
            done.append(True)
            monitoring.set_events(tool, 0)
            for event in wanted:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)
            action()

    monitoring.use_tool_id(tool, "sofa-fork")
    for event in wanted:
        monitoring.register_callback(tool, event, fire)
    monitoring.set_events(tool, sum(wanted))
    return True
