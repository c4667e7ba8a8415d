"""One person in the online refinement: the state machine, the windows, and when to begin anew."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..body.ehm import EhmBody
from ..geometry.raster import Topology
from ..types import HumanParams
from .avatar import Avatar, FreeAvatar
from .corrections import Correction, Corrections, corrected
from .exposure import SATURATED
from .gates import Entry, Observation, chi2, observe, vertex_owners
from .judge import Verdict, judge
from .keyframes import KeyFrames
from .learner import Learner
from .offline import first_avatar
from .online_settings import OnlineSettings
from .schedule import Budget
from .shape import SHAPE_FRAMES, OneShape, with_own_face
from .skin import SHAPE_FIELDS
from .snapshot import AvatarSnapshot
from .solve import Item, NumericFault, Plan, Solved, scaled_rates, solve
from .stage_zero import WindowDepth, no_depth
from .window import AvatarView, RefinedWindow, WindowQuality

MAX_GAP_S = 1.0
"""A longer gap between two frames is a cut."""
CUT_DISTANCE = 0.6
"""Two images in a row whose colours differ by more are of two scenes."""
K_CHANGE = 0.01
STRANGER_DISTANCE, STRANGER_FRAMES = 0.5, 5
"""Colours inside the mask that differ this much from the key frames', in so many frames of a window."""
PSNR_DROP_DB = 5.0
PARKED_DROP_DB = 3.0
PSNR_SMOOTHING = 0.8
GOOD_SHARE = 0.5
"""Of a window's frames that must pass the gates."""
RELEARN_STEPS, RELEARN_FACTOR = 200, 5.0
SHAPE_STEPS = 50
"""More steps of the first window after the avatar was carried over to another shape."""
MAP_END = 5e-5
"""Learning rate of the centres at the end of the bootstrap [m]."""
GROW_EVERY_S = 2.0
JUDGE_SHARE = 0.1
"""Of the time of a window, kept for judging it before it is known how long that takes."""


class Person:
    """See `OnlineRefiner`, which calls this from one thread.

    Attributes:
        status: One of `window.STATUSES`. version: Of the avatar. view: To be drawn; None before the first window.
    """

    def __init__(self, track_id: int, body: EhmBody, topology: Topology, settings: OnlineSettings) -> None:
        self.track_id, self.settings = track_id, settings
        self._body, self._topology, self._owners = body, topology, vertex_owners(body)
        self._ring: deque[Entry] = deque()
        self._keys = KeyFrames(settings.keyframes)
        self._corrections = Corrections(settings.decay_s, settings.window.interpolate_s, settings.device)
        self._rng = np.random.default_rng([settings.seed, track_id & 0xFFFFFFFF])
        self._generator = torch.Generator().manual_seed(settings.seed)
        self.version = 0
        self.forget()

    # --- what comes in -------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the avatar and all that was learnt."""
        self.status = "idle"
        self.view: AvatarView | None = None
        self._learner: Learner | None = None
        self._shape: OneShape | None = None
        self._depth = WindowDepth(self.settings.depth_scale)
        self._good: AvatarSnapshot | None = None
        self._iterations = self._stint = self._rejections = self._faults = self._relearn = self._more_steps = 0
        self._rate_factor = 1.0
        self._began_ns = 0
        self._grown_ns = 0
        self._psnr = self._first_psnr = float("nan")
        self._doubtful = False
        self._judging_s: float | None = None
        self._keys.clear()
        self.cut(keep_frames=True)

    def cut(self, *, keep_frames: bool = False) -> None:
        """Forget the window and the corrections; the avatar stays."""
        if not keep_frames:
            self._ring.clear()
        self._corrections.clear()
        self._observed: dict[int, Observation] = {}
        self._next_ns: int | None = None
        self._published_ns: int | None = None

    def take(self, entries: Sequence[Entry]) -> None:
        """Add frames; find cuts and changes of the camera."""
        for entry in entries:
            if self.status == "parked":
                self._unpark()
            self._compare(entry)
            self._ring.append(entry)
        if self._ring:
            oldest = self._ring[-1].stamp_ns - self.settings.window.seconds * 1e9
            while self._ring[0].stamp_ns < oldest:
                self._ring.popleft()

    def _compare(self, entry: Entry) -> None:
        if not self._ring:
            return
        gap_s = (entry.stamp_ns - self._ring[-1].stamp_ns) * 1e-9
        if not 0 < gap_s <= MAX_GAP_S:
            self.cut()
            return
        last = next((e.frame for e in reversed(self._ring) if e.frame is not None), None)
        if entry.frame is None or last is None:
            return
        change = np.abs(entry.frame.K - last.K)[:2].max() / last.K[0, 0]
        if entry.frame.image_hw != last.image_hw or change > K_CHANGE:
            self.cut()
            self._keys.clear()
        elif chi2(entry.colors, next(e.colors for e in reversed(self._ring) if e.frame is not None)) > CUT_DISTANCE:
            self.cut()

    def park(self) -> None:
        """The person is gone for now: keep the avatar, in host memory, and nothing else."""
        self.cut()
        self._keys.clear()
        self.view = None
        if self._learner is None or self.status == "bootstrap":
            self.forget()
        else:
            self._learner.avatar.to("cpu")
            self._good = None
        self.status = "parked"

    def _unpark(self) -> None:
        if self._learner is None:
            self.status = "idle"
            return
        self._set(self._learner.avatar)
        self._doubtful = np.isfinite(self._first_psnr)

    def load(self, avatar: Avatar) -> None:
        """Go on with an avatar that was learnt before."""
        self.forget()
        params = avatar.canonical.params
        self._shape = OneShape(self._body, {name: np.asarray(getattr(params, name)) for name in SHAPE_FIELDS})
        self._set(avatar)
        self.version += 1

    def _set(self, avatar: Avatar) -> None:
        self._learner = Learner.begin(avatar, self.settings)
        self.status = "track"

    @property
    def avatar(self) -> Avatar | None:
        return self._learner.avatar if self._learner else None

    # --- windows -------------------------------------------------------------------------------------------------

    @property
    def due_ns(self) -> int | None:
        """Stamp since which a window has been due; None while none is."""
        full = [entry for entry in self._ring if entry.frame is not None]
        if not full or self.status == "parked":
            return None
        newest, first = full[-1].stamp_ns, full[0].stamp_ns
        if self._next_ns is not None:
            return self._next_ns if newest >= self._next_ns else None
        stride = self.settings.window.stride_s * 1e9
        return first if len(full) >= self.settings.gate.min_frames or newest - first >= stride else None

    def refine(self, budget: Budget, *, mapping: bool = True) -> RefinedWindow:
        """Work on the window that is due.

        Args:
            mapping: False = a complete avatar stays as it is; poses alone are refined.
        """
        full = [entry for entry in self._ring if entry.frame is not None]
        newest = full[-1].stamp_ns
        self._next_ns = newest + round(self.settings.window.stride_s * 1e9)
        window, problem = self._gated(full)
        if problem:
            if self.status == "track":
                self.status = "coast"
            return self._window(window, problem, budget)
        if self._learner is None:
            window = self._begin(window)
            if not window:
                return self._window(window, "the body's one shape does not fit the masks", budget)
        self._follow_shape()
        try:
            return (
                self._bootstrap(window, budget) if self.status == "bootstrap" else self._track(window, budget, mapping)
            )
        except NumericFault as fault:
            return self._window(window, self._recover(str(fault)), budget)
        except torch.cuda.OutOfMemoryError:
            self._keys.frames = self._keys.frames[len(self._keys) // 2 :]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._restore()
            return self._window(window, "out of memory; half of the key frames are dropped", budget)

    def _gated(self, full: Sequence[Entry]) -> tuple[list[Observation], str]:
        """Return the window's frames that can be used, and why there are too few of them or ""."""
        s = self.settings
        if self._learner is None and len(full) < s.gate.min_frames:
            return [], f"{len(full)} frames in {s.window.seconds:g} s, {s.gate.min_frames} are needed"
        seen = [self._observe(entry) for entry in evenly_sharp(full, s.window.optimised)]
        self._observed = {o.stamp_ns: o for o in seen}
        good = [o for o in seen if not o.problem]
        if len(good) < GOOD_SHARE * len(seen) or not good:
            reasons = Counter(o.problem for o in seen if o.problem)
            return good, reasons.most_common(1)[0][0]
        if self._learner is None and not any(o.for_mapping for o in good):
            return good, "no mask is good enough to learn an avatar from"
        self._keys.watch(good)
        return good, ""

    def _observe(self, entry: Entry) -> Observation:
        known = self._observed.get(entry.stamp_ns)
        if known is not None:
            return known
        params = self._shaped(entry.params)
        s = self.settings
        return observe(
            entry, params, self._body, self._topology, s.gate, height_px=s.crop_height_px, owners=self._owners
        )

    def _shaped(self, params: HumanParams) -> HumanParams:
        """Return parameters with the person's one shape."""
        return params if self._shape is None else self._shape.on(params)

    def _begin(self, window: list[Observation]) -> list[Observation]:
        """Freeze the shape and lay the first Gaussians; return the window with that shape."""
        people = [entry.params for entry in self._ring if entry.params.finite()]
        self._shape = OneShape.of(self._body, people[:SHAPE_FRAMES])
        self._observed = {}
        window = [o for o in (self._observe(observation.entry) for observation in window) if not o.problem]
        self._observed = {o.stamp_ns: o for o in window}
        frames = [o.entry.frame for o in window if o.for_mapping]
        if not frames:
            self._shape = None
            return []
        chosen = [o.params for o in window if o.for_mapping]
        self._set(first_avatar(frames, chosen, self._body, self.settings.avatar))
        self.status = "bootstrap"
        self._began_ns = window[0].stamp_ns
        return window

    def _follow_shape(self) -> None:
        """Move the avatar to another shape when the estimates of the shape have moved away."""
        old = self._shape
        assert old is not None
        shape = old.moved([entry.params for entry in self._ring])
        if shape is None or not isinstance(self.avatar, FreeAvatar):
            return
        self._shape = shape
        self.avatar.rebind(shape.canonical())
        for key in self._keys.frames:
            key.params = shape.instead_of(old, key.params)
        self._corrections.clear()
        self._observed = {}
        self._learner.terms.refresh()
        self._good = None
        self._more_steps = SHAPE_STEPS

    # --- bootstrap -----------------------------------------------------------------------------------------------

    def _bootstrap(self, window: list[Observation], budget: Budget) -> RefinedWindow:
        boot = self.settings.bootstrap
        # Spread over windows, so that the avatar learns from several sides before its rates have fallen.
        most = -(-boot.iterations // boot.keyframes)
        solved, verdict, items = self._solve(window, self._bootstrap_plan(most - self._stint), budget)
        self._iterations += solved.learnt
        self._remember(window, items)
        self._learn_from(window, items)
        self._first_psnr = verdict.psnr_db
        waited = window[-1].stamp_ns - self._began_ns >= boot.patience_s * 1e9
        enough = len(self._keys) >= boot.keyframes or waited
        if self._iterations >= boot.iterations and enough and verdict.psnr_db >= boot.psnr_db:
            self.status, self._psnr = "track", verdict.psnr_db
            self._published_ns = window[-1].stamp_ns
            problem = "the avatar is complete; windows follow"
        elif self._iterations >= boot.give_up:
            problem = f"{self._iterations} steps gave an avatar of {verdict.psnr_db:.1f} dB only: it is begun anew"
            self.forget()
            self._next_ns = window[-1].stamp_ns + round(self.settings.window.stride_s * 1e9)
        else:
            problem = f"the avatar is being learnt: {self._iterations} steps of {boot.iterations}, " \
                f"{len(self._keys)} key frames, {verdict.psnr_db:.1f} dB"  # fmt: skip
            self._stint += solved.learnt
            if solved.learnt and self._stint < most and self._iterations < boot.iterations:
                self._next_ns = window[-1].stamp_ns  # time was short: there is work without new frames
            else:
                self._stint = 0
        return self._window(window, problem, budget, solved, verdict)

    def _bootstrap_plan(self, most: int) -> Plan:
        """Return up to `most` steps, colours first; the centres' rate falls over all of the bootstrap."""
        boot = self.settings.bootstrap
        rates = scaled_rates(self.settings.rates, self._rate_factor)
        if rates.mu > MAP_END:
            rates = replace(rates, mu=rates.mu * (MAP_END / rates.mu) ** min(1.0, self._iterations / boot.iterations))
        return Plan(
            self.settings.pose_iterations if self._iterations else 0, most, rates,
            color_iterations=max(0, boot.color_iterations - self._iterations), hold_keys=False, converge=False,
        )  # fmt: skip

    # --- track ---------------------------------------------------------------------------------------------------

    def _track(self, window: list[Observation], budget: Budget, mapping: bool) -> RefinedWindow:
        s = self.settings
        rates = replace(s.rates, mu=min(s.rates.mu, s.map_rate))
        colors = RELEARN_FACTOR if self._relearn > 0 else 1.0
        learn = mapping and not self._doubtful
        plan = Plan(
            s.pose_iterations, s.joint_iterations + self._more_steps if learn else 0,
            scaled_rates(rates, self._rate_factor, colors=colors), converge=self._relearn + self._more_steps <= 0,
        )  # fmt: skip
        solved, verdict, items = self._solve(window, plan, budget)
        self._relearn = max(0, self._relearn - solved.learnt)
        self._more_steps = max(0, self._more_steps - solved.learnt)
        self.status = "track"
        problem = "stopped" if budget.stopped else verdict.reason
        change = self._somebody_else(window, verdict)
        if change:
            return self._window(window, change, budget, solved, verdict)
        self._doubtful = False
        if problem:
            # What made unseen pixels worse is undone; what did not help enough may still have taught the avatar.
            if not verdict.after <= verdict.before:
                self._restore()
            return self._rejected(window, problem, budget, solved, verdict)
        self._rejections = 0
        self._remember(window, items)
        if not self._relearn and any(float(item.correction.exposure.abs().max()) > SATURATED for item in items):
            self._relearn = RELEARN_STEPS  # another light: the avatar is to take it on, not gain and bias
            self._corrections.forget_exposure()
        self._psnr = PSNR_SMOOTHING * self._psnr + (1 - PSNR_SMOOTHING) * verdict.psnr_db \
            if np.isfinite(self._psnr) else verdict.psnr_db  # fmt: skip
        self._learn_from(window, items)
        stamps, people = self._published()
        return self._window(window, "", budget, solved, verdict, stamps, people)

    def _rejected(
        self, window: list[Observation], problem: str, budget: Budget, solved: Solved, verdict: Verdict
    ) -> RefinedWindow:
        self._rejections += not budget.stopped
        if self._rejections >= self.settings.rejections:
            problem = f"{self._rejections} windows rejected in a row: the avatar is begun anew; the last: {problem}"
            self._anew(window)
        return self._window(window, problem, budget, solved, verdict)

    def _somebody_else(self, window: list[Observation], verdict: Verdict) -> str:
        """Act on a picture that the avatar explains much worse than before; return what was done or ""."""
        if self._doubtful and not verdict.psnr_db >= self._first_psnr - PARKED_DROP_DB:
            self._anew(window)
            return f"the kept avatar does not fit: {verdict.psnr_db:.1f} dB; begun anew"
        if self._doubtful or not verdict.psnr_db <= self._psnr - PSNR_DROP_DB or not len(self._keys):
            return ""
        usual = np.mean([key.colors for key in self._keys.frames], axis=0)
        strange = [chi2(o.colors, usual) > STRANGER_DISTANCE for o in window]
        if sum(strange) >= min(STRANGER_FRAMES, len(window)):
            self._anew(window)
            return "the colours are those of somebody else: the avatar is begun anew"
        if any(strange):
            self._restore()
            return "the colours of some frames are those of somebody else"
        if self._relearn:
            return ""
        self._relearn = RELEARN_STEPS
        self._keys.clear()
        return "the person looks different: colours are learnt again"

    def _anew(self, window: list[Observation]) -> None:
        self.forget()
        self._next_ns = window[-1].stamp_ns + 1
        self.version += 1

    # --- what both share -----------------------------------------------------------------------------------------

    def _solve(self, window: list[Observation], plan: Plan, budget: Budget) -> tuple[Solved, Verdict, list[Item]]:
        s, learner = self.settings, self._learner
        snapshot = AvatarSnapshot.take(learner.avatar, learner.optimiser, window[-1].stamp_ns)
        if snapshot.finite():
            self._good = snapshot
        items = self._items(window)
        keys = self._keys.for_window(s.window.max_frames - len(items), {o.stamp_ns for o in window})
        reserve = JUDGE_SHARE * s.budget_ms / 1e3 if self._judging_s is None else self._judging_s
        trust = [o.entry.depth_weight for o in window if o.has_depth]
        solved = solve(
            learner, items, keys, plan, s, budget, self._rng,
            depth_weight=float(np.mean(trust)) if trust else 1.0, reserve=reserve,
        )  # fmt: skip
        begin = budget.used
        verdict = judge(
            learner.avatar, solved.views, [o.params for o in window], solved.people,
            exposure=torch.stack([item.correction.exposure for item in items]), backend=s.backend,
        )  # fmt: skip
        self._judging_s = budget.used - begin
        if not all(bool(p.isfinite().all()) for p in learner.avatar.parameters()):
            raise NumericFault("a Gaussian is not finite")
        self.version += solved.learnt > 0
        self._show(window[-1], solved.people[-1])
        return solved, verdict, items

    def _items(self, window: list[Observation]) -> list[Item]:
        """Begin each frame where the window before left it, else where recent corrections and its depth say."""
        s = self.settings
        factors, targets = self._depth(window) if s.depth else no_depth(len(window))
        items = []
        for observation, factor, root_z in zip(window, factors, targets, strict=True):
            known = self._corrections.get(observation.stamp_ns)
            correction = known or self._expected(observation, root_z)
            view = observation.view(held_out=s.held_out, device=s.device, depth_factor=factor)
            new, for_mapping = known is None, observation.for_mapping
            items.append(Item(view, observation.params, correction, new, for_mapping, observation.joints))
        return items

    def _expected(self, observation: Observation, root_z: float) -> Correction:
        """Return what recent corrections say of a frame, moved along the ray to where depth has the person."""
        expected = self._corrections.expected(observation.stamp_ns)
        if np.isfinite(root_z):
            root = torch.as_tensor(observation.root, dtype=torch.float32, device=expected.shift.device) + expected.shift
            expected.shift = expected.shift + root * (root_z / float(root[2]) - 1)
        return expected

    def _remember(self, window: Sequence[Observation], items: Sequence[Item]) -> None:
        oldest = window[-1].stamp_ns - round(2 * self.settings.window.seconds * 1e9)
        found = {o.stamp_ns: item.correction for o, item in zip(window, items, strict=True)}
        self._corrections.remember(found, oldest)

    def _learn_from(self, window: Sequence[Observation], items: Sequence[Item]) -> None:
        """Take key frames; where one was taken, add and remove Gaussians."""
        admitted = None
        for observation, item in zip(window, items, strict=True):
            key = next((k for k in self._keys.frames if k.stamp_ns == observation.stamp_ns), None)
            if key is not None:
                key.correction = item.correction
            elif self._keys.wanted(observation):
                admitted = self._keys.admit(observation, item.view, item.correction)
        boot = self.settings.bootstrap
        coloured = self._iterations >= boot.color_iterations or self.status != "bootstrap"
        if admitted is not None and coloured and admitted.stamp_ns - self._grown_ns >= GROW_EVERY_S * 1e9:
            self._grown_ns = admitted.stamp_ns
            person = corrected([admitted.params], [admitted.correction])[0]
            self._learner.change_density(admitted.view, person, self.settings, self._generator)

    def _restore(self) -> None:
        """Go back to the last good avatar."""
        if self._good is None or self._learner is None:
            return
        self._learner.restore(self._good, self.settings)

    def _recover(self, fault: str) -> str:
        """After a numeric fault: once go back and learn more slowly, then begin anew. Return what was done."""
        self._faults += 1
        newest = self._ring[-1].stamp_ns
        if self._faults > 1 or self._good is None:
            self.forget()
            self._next_ns = newest + 1
            self.version += 1
            return f"{fault}: the avatar is begun anew"
        self._restore()
        self._rate_factor = 0.5
        self._corrections.clear()
        return f"{fault}: back to the last good avatar, with half the learning rates"

    def _published(self) -> tuple[tuple[int, ...], tuple[HumanParams, ...]]:
        """Return all frames not yet given out that are refined or lie between refined ones, and their people."""
        new = [e for e in self._ring if self._published_ns is None or e.stamp_ns > self._published_ns]
        reached = list(self._corrections.reaching(new))
        if not reached:
            return (), ()
        entries, corrections = zip(*reached, strict=True)
        self._published_ns = entries[-1].stamp_ns
        people = corrected([self._shaped(entry.params) for entry in entries], corrections)
        return tuple(entry.stamp_ns for entry in entries), tuple(
            with_own_face(person, entry.params) for person, entry in zip(people, entries, strict=True)
        )

    @torch.no_grad()
    def _show(self, observation: Observation, person: HumanParams) -> None:
        """Keep the newest pose to be drawn."""
        avatar, frame = self._learner.avatar, observation.entry.frame
        gaussians = avatar.pose_person(person)
        # Opacities and colours are the avatar's own memory, which goes on changing.
        gaussians = replace(
            gaussians, opacities=gaussians.opacities.contiguous().clone(), colors=gaussians.colors.contiguous().clone()
        )
        self.view = AvatarView(gaussians, person, observation.stamp_ns, frame.K, frame.image_hw, self.version)

    def _window(
        self,
        window: Sequence[Observation],
        problem: str,
        budget: Budget,
        solved: Solved | None = None,
        verdict: Verdict | None = None,
        stamps: tuple[int, ...] | None = None,
        people: tuple[HumanParams, ...] = (),
    ) -> RefinedWindow:
        depth = [o.entry.depth_source for o in window if self.settings.depth and o.has_depth]
        quality = WindowQuality(
            accepted=not problem,
            reason=problem,
            status=self.status,
            frames=len(window) if solved else 0,
            iterations=solved.iterations if solved else 0,
            seconds=budget.used,
            before=verdict.before if verdict else float("nan"),
            after=verdict.after if verdict else float("nan"),
            psnr_db=verdict.psnr_db if verdict else float("nan"),
            iou=verdict.iou_after if verdict else float("nan"),
            depth_source=depth[-1] if depth else "none",
            gaussians=self.avatar.n_gaussians if self.avatar is not None else 0,
        )
        stamps = tuple(o.stamp_ns for o in window) if stamps is None else stamps
        return RefinedWindow(self.track_id, stamps, people, quality, self.version if self.avatar is not None else 0)


def evenly_sharp(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Return up to `count` frames spread evenly, each the sharpest of its neighbourhood; the newest is among them."""
    n = len(entries)
    if n <= count:
        return list(entries)
    places = np.linspace(0, n - 1, count)
    spacing = (n - 1) / max(count - 1, 1)
    reach = min(2, int((spacing - 1) // 2))
    chosen = []
    for place in places.round().astype(int):
        near = range(max(0, place - reach), place + reach + 1) if place < n - 1 and reach > 0 else [place]
        chosen.append(max(near, key=lambda i: entries[i].sharpness) if len(near) > 1 else place)
    return [entries[i] for i in sorted(set(chosen))]
