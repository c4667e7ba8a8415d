"""The refiner with its true refinement, on a synthetic person whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import FRAME_ID
from hsr import convert
from hsr.refine_node import online_settings_for
from hsr.refine_params import DEFAULTS
from hsr.refine_params import GaussianSettings as Gaussians
from hsr.stamps import stamp_to_ns
from hsr_msgs.msg import Human
from hsr_msgs.srv import AvatarFile
from refine_rig import Refiner, depth_image, human, info, mask_image, people
from sensor_msgs.msg import PointCloud2

from hsr_core.types import Camera

STEP_NS = 100_000_000
LIMIT_S = 280.0


def test_settings_of_the_node_reach_the_refinement():
    window = replace(DEFAULTS.window, seconds=3.0, max_frames=12)
    settings = replace(DEFAULTS, window=window, binding="lsw", gaussians=Gaussians(max=2000))
    online = online_settings_for(settings, "cpu")
    assert (online.device, online.budget_ms) == ("cpu", 10_000)  # no budget given: the profile's
    assert (online.window.seconds, online.window.stride_s, online.window.max_frames) == (3.0, 1.0, 12)
    assert (online.avatar.binding, online.density.cap) == ("lsw", 2000)
    assert online_settings_for(replace(settings, budget_ms=500.0), "cuda").budget_ms == 500
    relative = replace(settings, depth=replace(settings.depth, scale_mode="relative"))
    assert online_settings_for(relative, "cpu").depth_scale == "relative"
    assert online_settings_for(settings, "cuda").device == "cuda"
    assert online_settings_for(replace(settings, profile="online_gpu_small"), "cpu").crop_height_px == 256


@pytest.fixture(scope="module")
def sequence():
    from hsr_core.synth.benchmark import benchmark_sequence
    from hsr_core.synth.noise import PoseNoise

    return benchmark_sequence(0, pose_noise=PoseNoise(scale=0.6))


@pytest.fixture(scope="module")
def body(sequence):
    from hsr_core.body import load_body

    return load_body()


def learn_avatar(frames, body, path) -> None:
    """Learn the person from the true poses of a whole turn, so that the node need not begin from nothing."""
    from hsr_core.refine.avatar import AvatarSettings
    from hsr_core.refine.avatar_io import save_avatar
    from hsr_core.refine.offline import first_avatar
    from hsr_core.refine.optimise import Refinement, RefineSettings
    from hsr_core.refine.view import prepare_view

    truths = [frame.truth for frame in frames]
    avatar = first_avatar(frames, truths, body, AvatarSettings(start=1000))
    settings = RefineSettings(pose=False, steps=150, color_steps=0)
    refinement = Refinement(avatar, [prepare_view(frame) for frame in frames], truths, settings)
    for _ in range(settings.steps):
        refinement.step()
    path.parent.mkdir(parents=True)
    save_avatar(avatar, path)


class Player:
    """Plays the sequence as camera, perception node, depth camera and mask."""

    def __init__(self, node: Refiner, frames, model_id: str) -> None:
        self.node, self.frames, self.model_id = node, frames, model_id
        self.camera = Camera(frames[0].K, frames[0].image_hw, frame_id=FRAME_ID)
        self._count = 0

    def index(self, stamp_ns: int) -> int:
        return stamp_ns // STEP_NS % len(self.frames)

    def __call__(self) -> None:
        self._count += 1
        stamp_ns = (1000 * len(self.frames) + self._count) * STEP_NS
        frame, node = self.frames[self.index(stamp_ns)], self.node
        node.infos.publish(info(stamp_ns, self.camera))
        node.depth_infos.publish(info(stamp_ns, self.camera))
        pixels = np.rint(frame.image * 255).astype(np.uint8)
        node.images.publish(convert.image_to_msg(pixels, stamp_ns, FRAME_ID, "rgb8"))
        node.depths.publish(depth_image(stamp_ns, np.nan_to_num(frame.depth_m), encoding="32FC1"))
        node.masks.publish(mask_image(stamp_ns, np.rint(frame.mask * 255)))
        person = human(parts=Human.BODY | Human.LEFT_HAND | Human.RIGHT_HAND | Human.FACE)
        convert._fill_params(person, frame.params, convert.Part(person.parts))
        node.perceived.publish(people(stamp_ns, person, camera=self.camera, model_id=self.model_id))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_windows_of_the_true_refinement_are_nearer_the_truth_than_what_came_in(rig, sequence, body):
    learn_avatar(sequence.frames[::2], body, rig.folder / "data" / "avatars" / "known.npz")
    node = Refiner(
        rig, "profile:=cpu_test", "budget_ms:=20000.0", "service_timeout_s:=60.0", "depth.provider:=topic",
        "mask.provider:=topic", "window.max_age_s:=0.0", "device:=cpu", module="hsr.refine_node",
    )  # fmt: skip
    play = Player(node, sequence.frames, body.model_id)
    clouds = rig.listen(PointCloud2, "/human/refined/gaussians", 1)
    node.feed(lambda: node.status("windows") and node.count("frames") >= 1, "frames", play=play, hz=10)
    client = rig.node.create_client(AvatarFile, "/human/refiner/load_avatar")
    future = client.call_async(AvatarFile.Request(name="known"))
    node.feed(future.done, "the avatar", play=play, hz=10, limit_s=90)
    assert future.result().ok, future.result().message

    node.feed(
        lambda: sum(q.accepted for q in node.quality) >= 2, "two accepted windows", play=play, hz=10, limit_s=LIMIT_S
    )  # fmt: skip
    accepted = [q for q in node.quality if q.accepted]
    for quality in accepted:
        assert quality.objective_after < quality.objective_before
        assert quality.depth_source == "topic"
        assert quality.gaussians > 500
    rig.wait(lambda: node.people and clouds, "people and Gaussians")
    errors = [], []
    for msg in node.people:
        frame = play.frames[play.index(stamp_to_ns(msg.header.stamp))]
        (person,) = msg.humans
        truth, start = (body.pose_one(p, vertices=False).joints[:22] for p in (frame.truth, frame.params))
        joints = np.reshape(person.joints, (55, 3))[:22]
        for error, guess in zip(errors, (start, joints), strict=True):
            error.append(np.linalg.norm(guess - truth, axis=1).mean())
        assert person.metric_source == Human.METRIC_REFINED
    before, after = np.mean(errors, axis=1)
    assert after < 0.9 * before, (before, after)
    print(f"{len(node.people)} people: {before * 1e3:.1f} mm before, {after * 1e3:.1f} mm after")
    assert clouds[0].width == accepted[0].gaussians or clouds[0].width > 500
    assert rig.stop(node.process) == 0
