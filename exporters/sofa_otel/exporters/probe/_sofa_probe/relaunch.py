"""Runs something at the next Python call of this process (Python 3.12 and later): a one-shot ``sys.monitoring`` event."""

import sys


def at_next_call(action):
    """Call ``action`` once, soon, outside of the current C call. Gives up politely where no tool id is free."""
    monitoring = sys.monitoring
    tool = next((number for number in (4, 3) if monitoring.get_tool(number) is None), None)
    if tool is None:
        return
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
