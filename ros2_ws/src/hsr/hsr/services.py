"""The nodes' services: answered between two frames, without holding up executor or worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hsr_msgs.srv import LockShape, SelectHuman, Snapshot
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from hsr_core.types import HumanEstimate, TrackState

from .convert import body_id
from .pipeline import Pipeline
from .worker import Worker


class Refused(Exception):
    """A request that cannot be served now; the text goes into the answer."""


class WorkerServices:
    """Services whose requests are served by a worker's thread.

    Args:
        node: Its executor is woken when an answer is ready.
        timeout_s: Longest wait for the worker.
        late: What a caller is told after that.
    """

    def __init__(self, node: Node, timeout_s: Callable[[], float], late: str) -> None:
        self._node, self._timeout_s, self._late = node, timeout_s, late
        # A request waits for the worker while messages keep coming: its callback group must not exclude them.
        self._group = ReentrantCallbackGroup()

    def _offer(self, kind: type, name: str, serve: Callable) -> None:
        """Offer a service under the node's name; `serve(request, response)` returns the message of its answer."""
        self._node.create_service(kind, f"~/{name}", self._answer(serve), callback_group=self._group)

    def _answer(self, serve: Callable) -> Callable:
        async def callback(request: Any, response: Any) -> Any:
            try:
                done, message = True, await serve(request, response)
            except Exception as error:  # out of a callback it would end the node
                done, message = False, str(error) or type(error).__name__
            setattr(response, "ok" if hasattr(response, "ok") else "success", done)
            response.message = message
            return response

        return callback

    def _inactive(self) -> Refused:
        return Refused(f"{self._node.get_name()} is not active: configure and activate it first")

    async def _finish(self, future: Future) -> Any:
        """Wait for the worker without blocking the executor."""
        executor = self._node.executor
        future.add_done_callback(lambda _: executor.wake())
        return await _Wait(future, self._timeout_s(), self._late)


class Services(WorkerServices):
    """Offers reset, pause, set_primary, lock_shape and snapshot of the perception node.

    Args:
        parts: Returns the worker and the pipeline while the node is active, else None.
        restart: Resets tracks in a new epoch; returns when the worker has done so.
        pause: Stops or resumes taking images.
    """

    def __init__(
        self,
        node: Node,
        parts: Callable[[], tuple[Worker, Pipeline, Any] | None],
        restart: Callable[[str], Future],
        pause: Callable[[bool], None],
        timeout_s: Callable[[], float],
    ) -> None:
        super().__init__(node, timeout_s, "no frame was processed in time (service_timeout_s); do images arrive?")
        self._parts, self._restart, self._pause = parts, restart, pause
        for kind, name, serve in (
            (Trigger, "reset", self._serve_reset),
            (SetBool, "pause", self._serve_pause),
            (SelectHuman, "set_primary", self._serve_set_primary),
            (LockShape, "lock_shape", self._serve_lock_shape),
            (Snapshot, "snapshot", self._serve_snapshot),
        ):
            self._offer(kind, name, serve)

    def _active(self) -> tuple[Worker, Pipeline, Any]:
        parts = self._parts()
        if parts is None:
            raise self._inactive()
        return parts

    async def _serve_reset(self, request: Any, response: Any) -> str:
        self._active()
        await self._finish(self._restart("asked for"))
        return "tracks, filters and shapes were forgotten"

    async def _serve_pause(self, request: Any, response: Any) -> str:
        worker, _, _ = self._active()
        self._pause(request.data)
        await self._finish(worker.call(lambda: None))
        return "paused" if request.data else "running"

    async def _serve_set_primary(self, request: Any, response: Any) -> str:
        worker, pipeline, stream = self._active()
        track_id = self._find(pipeline, request.id).track_id if request.id else None
        await self._finish(worker.call(lambda: stream.set_primary(track_id)))
        response.id = request.id or self._primary_id(pipeline)
        return f"{request.id} is locked as primary" if request.id else "chosen automatically"

    async def _serve_lock_shape(self, request: Any, response: Any) -> str:
        worker, pipeline, stream = self._active()
        person = self._find(pipeline, request.id)
        name = body_id(person.track_id)
        if request.height_m:
            # A new height makes the library estimate the shape anew, and keep it after some frames.
            (outcome,) = self._node.set_parameters([Parameter("subject.height_m", value=request.height_m)])
            if not outcome.successful:
                raise Refused(outcome.reason)
            return f"height set to {request.height_m:g} m; the shape of {name} is estimated anew, then kept"
        await self._finish(worker.call(lambda: stream.lock_shape(person.track_id, request.lock)))
        return f"the shape of {name} is {'kept' if request.lock else 'estimated anew'}"

    async def _serve_snapshot(self, request: Any, response: Any) -> str:
        worker, pipeline, _ = self._active()
        written: Future = Future()
        worker.call(lambda: pipeline.snapshot(request.name, written))
        response.path = str(await self._finish(written))
        return "written"

    def _find(self, pipeline: Pipeline, wanted: str) -> HumanEstimate:
        """Return the person with this id; "" is the primary one."""
        people = [person for person in _people(pipeline) if person.state != TrackState.LOST]
        for person in people:
            if body_id(person.track_id) == wanted or (not wanted and person.primary):
                return person
        seen = ", ".join(body_id(person.track_id) for person in people) or "nobody"
        raise Refused(f"no person {wanted!r}; seen now: {seen}")

    @staticmethod
    def _primary_id(pipeline: Pipeline) -> str:
        return next((body_id(person.track_id) for person in _people(pipeline) if person.primary), "")


def _people(pipeline: Pipeline) -> tuple[HumanEstimate, ...]:
    return pipeline.result.people if pipeline.result else ()


class _Wait:
    """Awaits a concurrent future in an rclpy callback; polled whenever the executor wakes."""

    def __init__(self, future: Future, timeout_s: float, late: str) -> None:
        self._future, self._deadline_s, self._late = future, time.monotonic() + timeout_s, late

    def __await__(self):
        while not self._future.done():
            if time.monotonic() > self._deadline_s:
                self._future.cancel()
                raise Refused(self._late)
            yield
        return self._future.result()
