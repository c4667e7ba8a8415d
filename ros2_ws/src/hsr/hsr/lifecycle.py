"""A lifecycle node whose transitions cannot take it down, and the client that drives such nodes."""

from __future__ import annotations

import time
from collections.abc import Callable

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


class GuardedLifecycleNode(LifecycleNode):
    """Transitions as plain methods that may raise.

    A subclass overrides `do_configure`, `do_activate`, `do_deactivate` and `free`. An exception in
    configure fails the transition (the node stays unconfigured); in any other it frees everything and
    the node becomes unconfigured. The reason is logged and kept in `failure` for the diagnostics.

    Attributes:
        failure: Why the last transition failed; "" when it did not.
        finished: True after shutdown; the process should end.
    """

    def __init__(self, name: str, **kwargs) -> None:
        self.failure = ""
        self.finished = False
        super().__init__(name, **kwargs)

    @property
    def state_label(self) -> str:
        return self._state_machine.current_state[1]

    def do_configure(self) -> None: ...

    def do_activate(self) -> None: ...

    def do_deactivate(self) -> None: ...

    def free(self) -> None:
        """Release everything that configure and activate made; called in any state, must not expect any."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
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
        self.finished = True
        if state.state_id == State.PRIMARY_STATE_ACTIVE:
            self._guard("shutdown", self.do_deactivate)
        return self._guard("shutdown", self.free)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        reason = self.failure
        done = self._guard("clean up after the error", self.free, TransitionCallbackReturn.FAILURE)
        self.failure = reason
        return done

    def _guard(
        self,
        name: str,
        body: Callable[[], object],
        on_failure: TransitionCallbackReturn = TransitionCallbackReturn.ERROR,
    ) -> TransitionCallbackReturn:
        try:
            body()
        except Exception as error:  # an exception out of a transition ends the whole process
            self.failure = f"{name} failed: {type(error).__name__}: {error}"
            self.get_logger().error(self.failure)
            if on_failure == TransitionCallbackReturn.FAILURE and name == "configure":
                self._free_quietly()
            return on_failure
        self.failure = ""
        return TransitionCallbackReturn.SUCCESS

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
        self._change = node.create_client(ChangeState, f"{target}/change_state")
        self._get = node.create_client(GetState, f"{target}/get_state")

    def state(self, timeout_s: float = 5.0) -> str | None:
        """Return the node's state label; None when it does not answer."""
        reply = self._call(self._get, GetState.Request(), timeout_s, lambda: True)
        return reply.current_state.label if reply else None

    def change(self, transition: str, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> bool:
        """Run a transition by name; False when it failed, timed out, or `alive` became false."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        reply = self._call(self._change, request, timeout_s, alive)
        return bool(reply and reply.success)

    def _call(self, client, request, timeout_s: float, alive: Callable[[], bool]):
        deadline = time.monotonic() + timeout_s
        while not client.service_is_ready():
            if time.monotonic() > deadline or not alive():
                return None
            self._executor.spin_once(timeout_sec=0.05)
        future = client.call_async(request)
        while not future.done():
            if time.monotonic() > deadline or not alive():
                client.remove_pending_request(future)
                return None
            self._executor.spin_once(timeout_sec=0.05)
        return future.result()
