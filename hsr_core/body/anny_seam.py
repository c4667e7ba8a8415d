"""Where the open body's head part ends: a closed edge loop around the neck."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..types import Array


def quads_of(faces: Array) -> Array:
    """Return the quads that anny split into consecutive pairs of triangles. (F, 3) -> (F / 2, 4)."""
    quads = []
    for first, second in faces.reshape(-1, 2, 3).tolist():
        apex = next(i for i in range(3) if first[i] not in second)
        opposite = next(v for v in second if v not in first)
        quads.append([first[apex], first[apex - 2], opposite, first[apex - 1]])
    return np.array(quads)


def rings(faces: Array, inside: Array, n: int = 1) -> Array:
    """Grow a set of vertices (V,) bool by `n` rings of neighbours."""
    for _ in range(n):
        touched = faces[inside[faces].any(axis=1)]
        inside = inside.copy()
        inside[touched] = True
    return inside


def edge_loops(quads: Array, starts: list[int], longest: int = 200) -> list[list[int]]:
    """Follow the edge loops through each start vertex: straight on at every vertex with four edges.

    Returns:
        Those that close within `longest` steps, as vertex ids in order.
    """
    around: dict[int, set[int]] = defaultdict(set)
    touching: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for quad in map(tuple, quads.tolist()):
        for i, v in enumerate(quad):
            touching[v].append(quad)
            around[v] |= {quad[i - 1], quad[(i + 1) % 4]}

    def straight_on(before: int, at: int) -> int | None:
        beside = {v for quad in touching[at] if before in quad for v in quad}
        ahead = around[at] - beside
        return ahead.pop() if len(around[at]) == 4 and len(ahead) == 1 else None

    loops = []
    for start in starts:
        for second in sorted(around[start]):
            loop: list[int] = [start, second]
            while loop[-1] != start and len(loop) < longest:
                ahead = straight_on(loop[-2], loop[-1])
                if ahead is None:
                    break
                loop.append(ahead)
            if loop[-1] == start:
                loops.append(loop[:-1])
    return loops


def neck_loop(faces: Array, template: Array, axis_z: float, starts: Array, avoid: Array) -> Array:
    """Return the shortest edge loop around the neck. Vertex ids (n,).

    Args:
        template: (V, 3) [m], y up. axis_z: where the neck's axis is, seen from above, on the midline [m].
        starts: Vertices that loops may start from. avoid: (V,) the loop's mean of it stays below 0.06.

    Raises:
        ValueError: There is none (the mesh is not the one this was written for).
    """
    best, best_length = None, np.inf
    for loop in edge_loops(quads_of(faces), starts.tolist()):
        places = template[loop]
        length = np.linalg.norm(places - np.roll(places, 1, axis=0), axis=1).sum()
        angle = np.unwrap(np.arctan2(places[:, 2] - axis_z, places[:, 0]))
        surrounds = abs(angle[-1] - angle[0]) > np.pi
        if surrounds and avoid[loop].mean() < 0.06 and length < best_length:
            best, best_length = np.array(loop), length
    if best is None:
        raise ValueError("no closed edge loop around the neck")
    return best


def above(faces: Array, loop: Array, seed: int) -> Array:
    """Return the side of a closed loop that `seed` lies on, without the loop. (V,) bool."""
    n = faces.max() + 1
    wall = np.zeros(n, bool)
    wall[loop] = True
    inside = np.zeros(n, bool)
    inside[seed] = True
    while True:
        grown = rings(faces, inside) & ~wall
        if (grown == inside).all():
            return inside
        inside = grown
