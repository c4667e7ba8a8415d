"""A lifecycle node whose transitions cannot take it down, and the client that drives such nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.task import Future

from hsr_core.errors import DeviceError

TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
GOALS = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}
ASK_S = 5.0
"""So often a node that has not replied is asked whether its transition is over: replies can get lost."""


class GuardedLifecycleNode(LifecycleNode):
    """Transitions as plain methods that may raise.

    A subclass overrides `do_configure`, `do_activate`, `do_deactivate` and `free`. An exception in
    configure fails the transition (the node stays unconfigured); in any other it frees everything and
    the node becomes unconfigured. So does `give_up`, for what fails outside a transition. The reason is
    logged and kept in `failure` for the diagnostics.

    Attributes:
        failure: Why the last transition failed; "" when it did not.
        finished: True after shutdown; the process should end.
    """

    def __init__(self, name: str, **kwargs) -> None:
        self.failure = ""
        self.finished = False
        self._fault = ""
        super().__init__(name, **kwargs)
        self._fault_signal = self.create_guard_condition(self._on_fault)

    @property
    def state_label(self) -> str:
        return self._state_machine.current_state[1]

    def do_configure(self) -> None: ...

    def do_activate(self) -> None: ...

    def do_deactivate(self) -> None: ...

    def free(self) -> None:
        """Release everything that configure and activate made; called in any state, must not expect any.

        Should it raise, nothing of it may be left to the next call.
        """

    def give_up(self, reason: str) -> None:
        """Become unconfigured, by the executor's thread, because work cannot go on. From any thread; returns at once.

        To a supervisor it is a deactivation that fails: deactivating, errorprocessing, unconfigured.
        """
        self._fault = reason
        self._fault_signal.trigger()

    def _on_fault(self) -> None:
        # A transition that was asked for meanwhile has ended in the same way by itself.
        if self.state_label == "active":
            self.trigger_deactivate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fault = ""
        return self._guard("configure", self.do_configure, TransitionCallbackReturn.FAILURE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        # The publishers first, so that nothing of the first frame is dropped.
        return self._guard(
            "activate", lambda: (super(GuardedLifecycleNode, self).on_activate(state), self.do_activate())
        )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guard(
            "deactivate", lambda: (self.do_deactivate(), super(GuardedLifecycleNode, self).on_deactivate(state))
        )

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guard("cleanup", self.free)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.finished, self._fault = True, ""
        if state.state_id == State.PRIMARY_STATE_ACTIVE:
            self._guard("shutdown", self.do_deactivate)
        return self._guard("shutdown", self.free)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._fault = ""
        self._free_quietly()  # a lost GPU may refuse even to be let go; finalized, the node could not be tried again
        return TransitionCallbackReturn.SUCCESS

    def _guard(
        self,
        name: str,
        body: Callable[[], object],
        on_failure: TransitionCallbackReturn = TransitionCallbackReturn.ERROR,
    ) -> TransitionCallbackReturn:
        failure = ""
        try:
            body()
        except Exception as error:  # an exception out of a transition ends the whole process
            if not self.context.ok():
                raise  # which is ending anyway: no failure to speak of
            failure = f"{name} failed: {type(error).__name__}: {error}"
            if isinstance(error, DeviceError):
                failure += f". {self._way_back()}"
        if self._fault:
            failure = f"{self._fault}. {self._way_back()}"
        self.failure = failure
        if not failure:
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(failure)
        if name == "configure":  # not while the exception is alive, whose frames hold what is to be freed
            self._free_quietly()
        return on_failure

    def _way_back(self) -> str:
        command = f"ros2 lifecycle set {self.get_fully_qualified_name()}"
        return (
            f"When the cause is gone: {command} configure, then {command} activate. If it fails again in the same way, "
            f"this process cannot use the GPU any more: {command} shutdown, and start it anew"
        )

    def _free_quietly(self) -> None:
        try:
            self.free()
        except Exception as error:
            self.get_logger().error(f"clean up failed: {type(error).__name__}: {error}")

    def _LifecycleNodeMixin__on_change_state(self, request, response):
        """Refuse a transition that this state does not allow.

        rclpy lets the exception of an impossible transition leave the executor, which ends the node; this
        overrides its (name-mangled) service callback with a check before it.
        """
        allowed = {t_id: label for t_id, label, *_ in self._state_machine.available_transitions}
        wanted = request.transition.label or request.transition.id
        if wanted not in (allowed.values() if request.transition.label else allowed):
            self.get_logger().warning(
                f"transition {wanted!r} is not possible while {self.state_label}; "
                f"possible: {', '.join(allowed.values())}"
            )
            response.success = False
            return response
        return super()._LifecycleNodeMixin__on_change_state(request, response)


class LifecycleClient:
    """Drives another process's lifecycle node through its standard services.

    Args:
        node: A node of this process, spun by `executor` and by nobody else.
        target: Full name of the lifecycle node, such as `/human/perception`.
    """

    def __init__(self, node: Node, executor: Executor, target: str) -> None:
        self._node, self._executor, self.target = node, executor, target
        self._get = node.create_client(GetState, f"{target}/get_state")
        self._change: Any = None  # made when it is used: who only asks for the state needs no right to change it

    def state(self, timeout_s: float = 5.0, alive: Callable[[], bool] = lambda: True) -> str | None:
        """Return the node's state label; None when it does not answer."""
        deadline = time.monotonic() + timeout_s
        future = self._send(self._get, GetState.Request(), deadline, alive)
        if future is None or not self._wait(future.done, deadline, alive):
            self._get.remove_pending_request(future)
            return None
        return future.result().current_state.label

    def change(self, transition: str, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> bool:
        """Run a transition by name; False when it failed, timed out, or `alive` became false."""
        self._change = self._change or self._node.create_client(ChangeState, f"{self.target}/change_state")
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        deadline = time.monotonic() + timeout_s
        future = self._send(self._change, request, deadline, alive)
        while future and not self._wait(future.done, min(deadline, time.monotonic() + ASK_S), alive):
            over = time.monotonic() > deadline or not alive()
            there = not over and self.state(1.0, alive) == GOALS[transition]
            if (over or there) and not future.done():
                self._change.remove_pending_request(future)
                return there
        return bool(future and future.result().success)

    def _send(self, client: Any, request: Any, deadline: float, alive: Callable[[], bool]) -> Future | None:
        """Send a request once the service is there; None when it is not."""
        return client.call_async(request) if self._wait(client.service_is_ready, deadline, alive) else None

    def _wait(self, condition: Callable[[], bool], deadline: float, alive: Callable[[], bool]) -> bool:
        while not condition():
            if time.monotonic() > deadline or not alive():
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True
