"""The refiner's services: save, load and forget avatars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsr_msgs.srv import AvatarFile
from rclpy.node import Node
from std_srvs.srv import Trigger

from .convert import track_id_of
from .data_folder import place_in
from .refine_pipeline import RefinePipeline
from .services import Refused, WorkerServices
from .worker import Worker

FOLDER = "avatars"
ENDING = ".npz"


def avatar_path(data_dir: str, name: str) -> Path:
    """Return the file of an avatar; it lies in the folder `avatars` of the data folder, whatever the name.

    Raises:
        ConfigError: The name is not a plain file name, or leads out of the folder by a link.
    """
    return place_in(data_dir, FOLDER, f"{name.removesuffix(ENDING)}{ENDING}" if name else name)


class RefineServices(WorkerServices):
    """Offers save_avatar, load_avatar and reset_avatar.

    Args:
        parts: Returns the worker and the pipeline while the node is active, else None.
        data_dir: Of the settings.
    """

    def __init__(
        self,
        node: Node,
        parts: Callable[[], tuple[Worker, RefinePipeline] | None],
        data_dir: Callable[[], str],
        timeout_s: Callable[[], float],
    ) -> None:
        super().__init__(
            node, timeout_s, "the refinement did not come to an end in time (service_timeout_s); try again"
        )
        self._parts, self._data_dir = parts, data_dir
        self._offer(AvatarFile, "save_avatar", self._serve_save)
        self._offer(AvatarFile, "load_avatar", self._serve_load)
        self._offer(Trigger, "reset_avatar", self._serve_reset)

    def _active(self) -> tuple[Worker, RefinePipeline]:
        parts = self._parts()
        if parts is None:
            raise self._inactive()
        return parts

    async def _serve_save(self, request: Any, response: Any) -> str:
        worker, pipeline = self._active()
        path, track_id = avatar_path(self._data_dir(), request.name), _wanted(request.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        relative = f"{FOLDER}/{path.name}"
        name = await self._finish(worker.call(lambda: pipeline.save_avatar(path, relative, track_id)))
        response.path = relative
        return f"the avatar of {name} was saved"

    async def _serve_load(self, request: Any, response: Any) -> str:
        worker, pipeline = self._active()
        path, track_id = avatar_path(self._data_dir(), request.name), _wanted(request.id)
        relative = f"{FOLDER}/{path.name}"
        name = await self._finish(worker.call(lambda: pipeline.load_avatar(path, relative, track_id)))
        response.path = relative
        return f"loaded for {name}"

    async def _serve_reset(self, request: Any, response: Any) -> str:
        worker, pipeline = self._active()
        await self._finish(worker.call(pipeline.reset_avatar))
        return "avatars and windows were forgotten"


def _wanted(letters: str) -> int | None:
    """Return the track id of a five-letter id; None for the primary person."""
    try:
        return track_id_of(letters) if letters else None
    except ValueError as error:
        raise Refused(str(error)) from error
