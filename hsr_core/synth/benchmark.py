"""The sequence on which refinement is measured: one clothed person, one full turn, everything known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from ..body.ehm import EhmBody
from ..refine.frames import RefineFrame
from ..types import Array, Camera, HumanParams
from .clothing import DressedBody
from .motion import Motion, stage_params, turned_about
from .noise import DepthNoise, PoseNoise
from .render import Picture, Surface, render
from .texture import Style, Texture

FRAMES, IMAGE_HW, FOCAL_PX, FPS = 40, (160, 112), 240.0, 10.0
FLOOR_Y = 0.82
"""The camera is this far above the floor [m]: the person just fits into the picture at the nearest point."""
LIGHT = np.array([-0.45, -0.60, -0.66]) / np.linalg.norm([-0.45, -0.60, -0.66])
"""Direction to the light on the stage: left of, above and behind the camera."""
WITHHELD_EVERY = 5
NOVEL_EVERY = 8
HEM_CYCLES = 5.0
"""Swings of the hem over the clip."""


@dataclass(frozen=True, eq=False)
class NovelView:
    """A picture from another side, of the same instant as a frame.

    Attributes:
        frame: Index of that frame.
        T_view_cam: (4, 4), x_view = T_view_cam x_cam: a turn about the vertical through the true pelvis. K is the same.
        image, mask, depth_m: As in `RefineFrame`; depth is exact.
    """

    frame: int
    T_view_cam: Array
    image: Array
    mask: Array
    depth_m: Array


@dataclass(frozen=True, eq=False)
class BenchmarkSequence:
    """Frames, truth and novel views in memory.

    Attributes:
        frames: All frames in order, each with its truth.
        train, test: Their indices; every fifth is withheld for the test.
        exact_depth_m: (T, H, W) [m]; the frames' own depth is noisy.
        novel: Ten novel views.
        cloth_vertices: (T, V, 3) [m] of the rendered mesh, camera frame.
        body_model: Id of the body.
    """

    frames: tuple[RefineFrame, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    exact_depth_m: Array
    novel: tuple[NovelView, ...]
    cloth_vertices: Array
    body_model: str

    @property
    def train_frames(self) -> list[RefineFrame]:
        return [self.frames[i] for i in self.train]

    @property
    def test_frames(self) -> list[RefineFrame]:
        return [self.frames[i] for i in self.test]


def open_body() -> EhmBody:
    """Load the open body, whatever body the environment names: the sequence must be the same for everybody."""
    from ..body.open_cache import open_body_files

    return EhmBody(open_body_files())


def benchmark_camera() -> Camera:
    height, width = IMAGE_HW
    K = np.array([[FOCAL_PX, 0, (width - 1) / 2], [0, FOCAL_PX, (height - 1) / 2], [0, 0, 1]])
    return Camera(K, IMAGE_HW)


@threadpool_limits.wrap(limits=1, user_api="blas")  # products of several threads differ in the last bit
def benchmark_sequence(
    seed: int,
    *,
    body: EhmBody | None = None,
    pose_noise: PoseNoise | None = None,
    depth_noise: DepthNoise | None = None,
    clothing: float = 1.0,
    contrast: float = 1.0,
) -> BenchmarkSequence:
    """Make the sequence. Person, motion, clothes and light are always the same; the seed draws the noise alone.

    Images show the person's own colour to the edge and black elsewhere, so that `image * mask + (1 - mask) *
    background` is exact for any background.

    Args:
        seed: Of the noise of poses and of depth, which do not depend on each other's settings.
        body: The open body, where it is loaded already.
        pose_noise, depth_noise: Default: a regressor's and a monocular depth network's.
        clothing: Factor on the clothes' thickness, 0 = skin tight.
        contrast: Factor on the patterns.

    Returns:
        The same bits for the same arguments on the same machine, however many threads it is given.
    """
    body = body or open_body()
    camera = benchmark_camera()
    shape = HumanParams()
    dressed = DressedBody(body, shape, clothing)
    texture = Texture(dressed.joints, Style(contrast=contrast))
    truth = stage_params(body, shape, Motion(), FRAMES, FLOOR_Y)  # the stage is the camera's frame here
    meshes = [dressed.pose(p, 2 * np.pi * HEM_CYCLES * t / FRAMES) for t, p in enumerate(truth)]

    def picture(vertices: Array, light: Array) -> Picture:
        return render([Surface(vertices, dressed.topology, dressed.rest, texture)], camera, light)

    pictures = [picture(mesh, LIGHT) for mesh in meshes]
    initial = (pose_noise or PoseNoise()).apply(truth, np.random.default_rng([seed, 1]))
    depth_rng = np.random.default_rng([seed, 2])
    depth_noise = depth_noise or DepthNoise()
    frames = tuple(
        RefineFrame(
            seen.cut_out(), seen.coverage[0], depth_noise.apply(seen.depth_m, depth_rng), camera.K, initial[t],
            round(t * 1e9 / FPS), truth=truth[t],
        )
        for t, seen in enumerate(pictures)
    )  # fmt: skip
    test = tuple(range(WITHHELD_EVERY - 1, FRAMES, WITHHELD_EVERY))
    return BenchmarkSequence(
        frames=frames,
        train=tuple(t for t in range(FRAMES) if t not in test),
        test=test,
        exact_depth_m=np.stack([seen.depth_m for seen in pictures]),
        novel=tuple(_novel_views(truth, meshes, dressed.joints[0], picture)),
        cloth_vertices=np.stack(meshes),
        body_model=body.model_id,
    )


def _novel_views(truth: Sequence[HumanParams], meshes: Sequence[Array], rest_pelvis: Array, picture) -> list[NovelView]:
    """Both sides of every eighth frame, at angles that grow from 60 to 90 degrees."""
    chosen = range(0, len(truth), NOVEL_EVERY)
    views = []
    for t, angle in zip(chosen, np.radians(np.linspace(60, 90, len(chosen))), strict=True):
        for yaw in (-angle, angle):
            T = turned_about((rest_pelvis + truth[t].transl).astype(np.float64), yaw)
            vertices = (meshes[t] @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
            seen = picture(vertices, T[:3, :3] @ LIGHT)
            views.append(NovelView(t, T, seen.cut_out(), seen.coverage[0], seen.depth_m))
    return views
