"""The governor's states and what leads from one to another, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from .command import State


class Event(Enum):
    """What may change the state."""

    ARM = auto()
    """Asked for, with a fresh joint state."""
    GO = auto()
    """A new press of the deadman (and `engage` before the first one), with every check green."""
    ARRIVED = auto()
    """The slow start is over."""
    HOLD = auto()
    """Input stale, identity lost, gate closed, deadman released, `pause`."""
    STOP = auto()
    """`stop`, HOLD for too long, no frame for too long, joint state lost, tracking error too large, own fault."""
    RESET = auto()


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.DISARMED: {Event.ARM: State.READY, Event.STOP: State.STOPPED},
    State.READY: {Event.GO: State.ENGAGING, Event.STOP: State.STOPPED, Event.RESET: State.DISARMED},
    State.ENGAGING: {Event.ARRIVED: State.TRACKING, Event.HOLD: State.HOLD, Event.STOP: State.STOPPED},
    State.TRACKING: {Event.HOLD: State.HOLD, Event.STOP: State.STOPPED},
    State.HOLD: {Event.GO: State.ENGAGING, Event.STOP: State.STOPPED},
    State.STOPPED: {Event.RESET: State.DISARMED},
}
"""What is not in the table does nothing: no event leads from HOLD or STOPPED back to motion but a new press."""


def after(state: State, event: Event) -> State:
    """Return the state after an event."""
    return TRANSITIONS[state].get(event, state)
