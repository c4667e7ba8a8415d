"""The CPU rasteriser's inner loops, compiled by numba on first use and kept on disk.

All arrays are contiguous float32 unless said, B pictures of N Gaussians flattened to G = B N rows. Kernels work on a
range [start, stop) of their rows and release the interpreter lock, so that threads can share a call; each row of every
output is written by one range and summed in one order, which is why results do not depend on the number of threads.
fastmath stays off: forward and backward must decide alike, to the bit, which pixels a Gaussian touches.

Source: EWA splatting (Zwicker et al. 2001); derivatives of projection and compositing as in Ye and Kanazawa 2023,
"Mathematical supplement for the gsplat library", arXiv:2312.02121; reverse walk as in Kerbl et al. 2023, "3D Gaussian
splatting".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from .splatting import ALPHA_MAX, ALPHA_MIN, BLUR_PX2, EXTENT_MAX, FAR_M, FOV_MARGIN, TRANSMITTANCE_MIN

TILE = 16
"""Side of the square of pixels that is composited at once; its state stays in the first-level cache."""
PIXELS = TILE * TILE
ROW = 16
"""Numbers a Gaussian takes in the table that compositing reads: one cache line."""
GRADS = 10
"""Gradients of a Gaussian on the screen: mean x, y; conic a, b, c; opacity; red, green, blue; z."""
_SLACK = np.float32(0.01)
"""Spans of pixels are widened by this much [px]; the exact test on alpha decides."""
_ALPHA_MAX = np.float32(ALPHA_MAX)
_ALPHA_MIN = np.float32(ALPHA_MIN)
_T_MIN = np.float32(TRANSMITTANCE_MIN)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_LN_2 = np.float32(math.log(2))
_LOG2_E = np.float32(1 / math.log(2))
_ZERO = np.float32(0)


def _jit(function: Callable) -> Callable:
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep the compiled code in: compiled anew in each process
        return njit(nogil=True, error_model="numpy")(function)


@_jit
def _limits(K, width, height):
    """Return the largest and smallest x/z and y/z at which the projection is linearised."""
    margin_x = FOV_MARGIN * 0.5 * width / K[0, 0]
    margin_y = FOV_MARGIN * 0.5 * height / K[1, 1]
    return (
        np.float32((width - K[0, 2]) / K[0, 0] + margin_x), np.float32(-K[0, 2] / K[0, 0] - margin_x),
        np.float32((height - K[1, 2]) / K[1, 1] + margin_y), np.float32(-K[1, 2] / K[1, 1] - margin_y),
    )  # fmt: skip


@_jit
def _screen_covariance(covariance, g, jx, jy, jxz, jyz):
    """Return xx, xy, yy of J S J^T, J = [[jx, 0, jxz], [0, jy, jyz]]."""
    xx, yy, zz = covariance[g, 0], covariance[g, 4], covariance[g, 8]
    xy = _HALF * (covariance[g, 1] + covariance[g, 3])
    xz = _HALF * (covariance[g, 2] + covariance[g, 6])
    yz = _HALF * (covariance[g, 5] + covariance[g, 7])
    return (
        jx * jx * xx + np.float32(2) * jx * jxz * xz + jxz * jxz * zz,
        jx * jy * xy + jx * jyz * xz + jxz * jy * yz + jxz * jyz * zz,
        jy * jy * yy + np.float32(2) * jy * jyz * yz + jyz * jyz * zz,
    )


@_jit
def _is_finite(means, covariances, opacities, colors, g):
    total = opacities[g]
    for i in range(3):
        total += abs(means[g, i]) + abs(colors[g, i])
    for i in range(9):
        total += abs(covariances[g, i])
    return math.isfinite(total)


@_jit
def project(start, stop, per_picture, K, width, height, near, means, covariances, opacities, colors,
            means2d, conics, depths, radii):  # fmt: skip
    """Project Gaussians [start, stop): means2d (G, 2), conics (G, 3), depths (G,), radii (G,) int32, 0 = not drawn."""
    for g in range(start, stop):
        radii[g] = 0
        means2d[g, 0] = means2d[g, 1] = depths[g] = _ZERO
        conics[g, 0] = conics[g, 1] = conics[g, 2] = _ZERO
        x, y, z = means[g, 0], means[g, 1], means[g, 2]
        if not (near <= z <= FAR_M) or not opacities[g] >= _ALPHA_MIN:
            continue
        if not _is_finite(means, covariances, opacities, colors, g):
            continue
        k = K[g // per_picture]
        fx, fy = k[0, 0], k[1, 1]
        x_max, x_min, y_max, y_min = _limits(k, width, height)
        rz = _ONE / z
        jxz = -fx * rz * min(max(x * rz, x_min), x_max)
        jyz = -fy * rz * min(max(y * rz, y_min), y_max)
        xx, xy, yy = _screen_covariance(covariances, g, fx * rz, fy * rz, jxz, jyz)
        xx += np.float32(BLUR_PX2)
        yy += np.float32(BLUR_PX2)
        det = xx * yy - xy * xy
        if not det > 0:
            continue
        u, v = fx * x * rz + k[0, 2], fy * y * rz + k[1, 2]
        extent = min(np.float32(EXTENT_MAX), math.sqrt(np.float32(2) * math.log(opacities[g] / _ALPHA_MIN)))
        radius_x, radius_y = np.ceil(extent * math.sqrt(xx)), np.ceil(extent * math.sqrt(yy))
        if not (u + radius_x > 0 and u - radius_x < width and v + radius_y > 0 and v - radius_y < height):
            continue
        radii[g] = np.int32(min(max(radius_x, radius_y), 2.0**30))
        means2d[g, 0], means2d[g, 1], depths[g] = u, v, z
        conics[g, 0], conics[g, 1], conics[g, 2] = yy / det, -xy / det, xx / det


@_jit
def project_backward(start, stop, per_picture, K, width, height, means, covariances, conics, radii,
                     d_means2d, d_conics, d_depths, d_means, d_covariances):  # fmt: skip
    """Write the gradients of means (G, 3) and covariances (G, 9), symmetric, of Gaussians [start, stop)."""
    for g in range(start, stop):
        for i in range(3):
            d_means[g, i] = _ZERO
        for i in range(9):
            d_covariances[g, i] = _ZERO
        if radii[g] == 0:
            continue
        k = K[g // per_picture]
        fx, fy = k[0, 0], k[1, 1]
        x_max, x_min, y_max, y_min = _limits(k, width, height)
        x, y, z = means[g, 0], means[g, 1], means[g, 2]
        rz = _ONE / z
        tx, ty = min(max(x * rz, x_min), x_max), min(max(y * rz, y_min), y_max)
        jx, jy, jxz, jyz = fx * rz, fy * rz, -fx * rz * tx, -fy * rz * ty

        # conic = C^-1: dL/dC = -conic G conic, with half of the off-diagonal derivative in each corner of G.
        a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
        ga, gb, gc = d_conics[g, 0], _HALF * d_conics[g, 1], d_conics[g, 2]
        pa, pb, qa, qb = a * ga + b * gb, a * gb + b * gc, b * ga + c * gb, b * gb + c * gc
        gxx, gxy, gyy = -(pa * a + pb * b), -(pa * b + pb * c), -(qa * b + qb * c)

        # C = J S J^T + blur: dL/dS = J^T G J, dL/dJ = 2 G J S.
        d_covariances[g, 0] = jx * jx * gxx
        d_covariances[g, 4] = jy * jy * gyy
        d_covariances[g, 8] = jxz * jxz * gxx + np.float32(2) * jxz * jyz * gxy + jyz * jyz * gyy
        d_covariances[g, 1] = d_covariances[g, 3] = jx * jy * gxy
        d_covariances[g, 2] = d_covariances[g, 6] = jx * (jxz * gxx + jyz * gxy)
        d_covariances[g, 5] = d_covariances[g, 7] = jy * (jxz * gxy + jyz * gyy)
        s = covariances
        xx, yy, zz = s[g, 0], s[g, 4], s[g, 8]
        xy, xz, yz = _HALF * (s[g, 1] + s[g, 3]), _HALF * (s[g, 2] + s[g, 6]), _HALF * (s[g, 5] + s[g, 7])
        ux, uy, uz = jx * xx + jxz * xz, jx * xy + jxz * yz, jx * xz + jxz * zz  # first row of J S
        vx, vy, vz = jy * xy + jyz * xz, jy * yy + jyz * yz, jy * yz + jyz * zz
        d_jx = np.float32(2) * (gxx * ux + gxy * vx)
        d_jy = np.float32(2) * (gxy * uy + gyy * vy)
        d_jxz = np.float32(2) * (gxx * uz + gxy * vz)
        d_jyz = np.float32(2) * (gxy * uz + gyy * vz)

        du, dv = d_means2d[g, 0], d_means2d[g, 1]
        dx, dy = fx * rz * du, fy * rz * dv
        dz = (
            d_depths[g]
            - (fx * x * du + fy * y * dv) * rz * rz
            - (jx * d_jx + jy * d_jy + jxz * d_jxz + jyz * d_jyz) * rz
        )
        if x_min <= x * rz <= x_max:  # elsewhere x/z is held at the limit and depends on neither
            dx -= fx * rz * rz * d_jxz
            dz += fx * rz * rz * tx * d_jxz
        if y_min <= y * rz <= y_max:
            dy -= fy * rz * rz * d_jyz
            dz += fy * rz * rz * ty * d_jyz
        d_means[g, 0], d_means[g, 1], d_means[g, 2] = dx, dy, dz


@_jit
def sort_by_depth(depths, radii, order, spare):
    """Write the drawn Gaussians to `order` (G,) int32, nearest first, ties by index; return how many.

    A radix sort on the bits of positive floats, which sort as integers do. `spare` is (G,) int32.
    """
    keys = depths.view(np.uint32)
    count = 0
    for g in range(len(depths)):
        if radii[g] > 0:
            order[count] = g
            count += 1
    source, target = order, spare
    starts = np.empty(2049, np.int64)
    for shift in (0, 11, 22):
        starts[:] = 0
        for i in range(count):
            starts[((keys[source[i]] >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for i in range(count):
            digit = (keys[source[i]] >> np.uint32(shift)) & np.uint32(2047)
            target[starts[digit]] = source[i]
            starts[digit] += 1
        source, target = target, source
    if count:
        order[:count] = spare[:count]  # three passes end in the other array
    return count


@_jit
def prepare(start, stop, width, height, order, means2d, conics, depths, opacities, colors, table, boxes):
    """Fill the compositing table (G, ROW) and the pixel boxes (G, 4) int32, inclusive, of ranks [start, stop).

    A Gaussian covers q = a dx^2 + 2 b dx dy + c dy^2 <= q_max, where its alpha reaches 1/255. On the line at dy that is
    the span |dx - slope dy| <= sqrt(span - shrink dy^2).
    """
    for rank in range(start, stop):
        g = order[rank]
        x, y = means2d[g, 0], means2d[g, 1]
        a, b, c = np.float64(conics[g, 0]), np.float64(conics[g, 1]), np.float64(conics[g, 2])
        q_max = 2.0 * math.log(np.float64(opacities[g]) / ALPHA_MIN) + 1e-4
        det = a * c - b * b
        half_x = math.sqrt(q_max * c / det) if det > 0 else 1e9
        half_y = math.sqrt(q_max * a / det) if det > 0 else 1e9
        boxes[rank, 0] = np.int32(min(max(np.ceil(x - half_x - 0.5 - _SLACK), 0.0), float(width)))
        boxes[rank, 1] = np.int32(min(max(np.ceil(y - half_y - 0.5 - _SLACK), 0.0), float(height)))
        boxes[rank, 2] = np.int32(max(min(np.floor(x + half_x - 0.5 + _SLACK), width - 1.0), -1.0))
        boxes[rank, 3] = np.int32(max(min(np.floor(y + half_y - 0.5 + _SLACK), height - 1.0), -1.0))
        row = table[rank]
        row[0], row[1] = x, y
        row[2], row[3], row[4] = conics[g, 0], conics[g, 1], conics[g, 2]
        row[5] = opacities[g]
        row[6], row[7], row[8] = colors[g, 0], colors[g, 1], colors[g, 2]
        row[9] = depths[g]
        row[10], row[11], row[12] = -b / a, q_max / a, det / (a * a)


@_jit
def count_pairs(count, per_picture, tiles_x, tiles_y, order, boxes, first_pair, tile_start):
    """Count what each tile and each Gaussian needs: tile_start (tiles + 1,), first_pair (count + 1,); return pairs."""
    tile_start[:] = 0
    first_pair[0] = 0
    for rank in range(count):
        base = (order[rank] // per_picture) * tiles_x * tiles_y
        x0, y0, x1, y1 = boxes[rank, 0] // TILE, boxes[rank, 1] // TILE, boxes[rank, 2] // TILE, boxes[rank, 3] // TILE
        pairs = 0
        if boxes[rank, 0] <= boxes[rank, 2] and boxes[rank, 1] <= boxes[rank, 3]:
            for ty in range(y0, y1 + 1):
                for tx in range(x0, x1 + 1):
                    tile_start[base + ty * tiles_x + tx + 1] += 1
            pairs = (y1 - y0 + 1) * (x1 - x0 + 1)
        first_pair[rank + 1] = first_pair[rank] + pairs
    for tile in range(len(tile_start) - 1):
        tile_start[tile + 1] += tile_start[tile]
    return first_pair[count]


@_jit
def list_pairs(count, per_picture, tiles_x, tiles_y, order, boxes, first_pair, tile_start, fill, ranks, pairs):
    """List each tile's Gaussians, nearest first: ranks (P,) int32, and pairs (P,) int32, their rows in pair order."""
    fill[:] = tile_start[:-1]
    for rank in range(count):
        base = (order[rank] // per_picture) * tiles_x * tiles_y
        pair = first_pair[rank]
        if first_pair[rank + 1] == pair:
            continue
        for ty in range(boxes[rank, 1] // TILE, boxes[rank, 3] // TILE + 1):
            for tx in range(boxes[rank, 0] // TILE, boxes[rank, 2] // TILE + 1):
                tile = base + ty * tiles_x + tx
                ranks[fill[tile]] = rank
                pairs[fill[tile]] = pair
                fill[tile] += 1
                pair += 1


@_jit
def _span(row, dy, tile_x0, width):
    """Return the first and last column of a tile that a Gaussian may touch on the line at dy below its centre."""
    middle = row[0] + row[10] * dy - _HALF
    half = math.sqrt(max(row[11] - row[12] * dy * dy, _ZERO)) + _SLACK
    first = max(np.ceil(middle - half), np.float32(tile_x0))
    last = min(np.floor(middle + half), np.float32(min(tile_x0 + TILE, width) - 1))
    return int(first), int(last)


@_jit
def _falloffs(row, dy, tile_x0, falloffs):
    """Write exp(-sigma) along a tile's line, (TILE,).

    A fixed number of independent steps, which the compiler turns into a few vector instructions; a call of exp would
    not be. exp(x) = 2^n exp(r), n the integer nearest to x / ln 2, r < 0.35 in a series: 2e-7 from exp. Beyond
    sigma = 6 nothing is drawn.
    """
    a, b, c = row[2], row[3], row[4]
    start = np.float32(tile_x0) + _HALF - row[0]
    across, constant = b * dy, _HALF * c * dy * dy
    for i in range(TILE):
        dx = start + np.float32(i)
        sigma = _HALF * a * dx * dx + across * dx + constant
        x = -min(max(sigma, _ZERO), np.float32(6))  # below zero by rounding only: a conic is positive definite
        n = np.int32(x * _LOG2_E - _HALF)  # rounds towards zero, and x is not positive
        r = x - np.float32(n) * _LN_2
        y = np.float32(1 / 5040) * r + np.float32(1 / 720)
        y = y * r + np.float32(1 / 120)
        y = y * r + np.float32(1 / 24)
        y = y * r + np.float32(1 / 6)
        y = y * r + _HALF
        y = y * r + _ONE
        y = y * r + _ONE
        power = np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)
        falloffs[i] = y * power


@_jit
def composite(start, stop, width, height, tiles_x, tiles_y, tile_start, ranks, pairs, table, boxes, background,
              color, alpha, depth, transmittance, last, pair_weight):  # fmt: skip
    """Draw tiles [start, stop), front to back.

    Writes color (B, H, W, 3), alpha, depth, transmittance (B, H, W); of each pixel the place, in the list of all tiles,
    of the last Gaussian drawn there, last (B, H, W) int32; of each pair its largest weight, pair_weight (P,).
    """
    falloffs = np.empty(TILE, np.float32)
    state = np.empty((5, PIXELS), np.float32)  # red, green, blue, z; transmittance, negative once the pixel is full
    for tile in range(start, stop):
        picture = tile // (tiles_x * tiles_y)
        tile_y0 = (tile // tiles_x) % tiles_y * TILE
        tile_x0 = tile % tiles_x * TILE
        x_stop, y_stop = min(tile_x0 + TILE, width), min(tile_y0 + TILE, height)
        state[:4] = _ZERO
        state[4] = _ONE
        last_drawn = np.full(PIXELS, -1, np.int32)
        open_pixels = (x_stop - tile_x0) * (y_stop - tile_y0)
        for place in range(tile_start[tile], tile_start[tile + 1]):
            if open_pixels == 0:
                pair_weight[pairs[place]] = _ZERO
                continue
            row = table[ranks[place]]
            my, opacity = row[1], row[5]
            red, green, blue, z = row[6], row[7], row[8], row[9]
            largest = _ZERO
            y0, y1 = max(boxes[ranks[place], 1], tile_y0), min(boxes[ranks[place], 3], y_stop - 1)
            for iy in range(y0, y1 + 1):
                dy = np.float32(iy) + _HALF - my
                x0, x1 = _span(row, dy, tile_x0, width)
                if x0 > x1:
                    continue
                _falloffs(row, dy, tile_x0, falloffs)
                base = (iy - tile_y0) * TILE - tile_x0
                for ix in range(x0, x1 + 1):
                    pixel = base + ix
                    t = state[4, pixel]
                    if t < _ZERO:
                        continue
                    opaque = min(opacity * falloffs[ix - tile_x0], _ALPHA_MAX)
                    if opaque < _ALPHA_MIN:
                        continue
                    t_next = t * (_ONE - opaque)
                    if t_next <= _T_MIN:
                        state[4, pixel] = -t
                        open_pixels -= 1
                        continue
                    weight = opaque * t
                    state[0, pixel] += weight * red
                    state[1, pixel] += weight * green
                    state[2, pixel] += weight * blue
                    state[3, pixel] += weight * z
                    state[4, pixel] = t_next
                    last_drawn[pixel] = place
                    largest = max(largest, weight)
            pair_weight[pairs[place]] = largest
        for iy in range(tile_y0, y_stop):
            for ix in range(tile_x0, x_stop):
                pixel = (iy - tile_y0) * TILE + ix - tile_x0
                t = abs(state[4, pixel])
                for i in range(3):
                    color[picture, iy, ix, i] = state[i, pixel] + t * background[picture, i]
                alpha[picture, iy, ix] = _ONE - t
                depth[picture, iy, ix] = state[3, pixel] / max(_ONE - t, np.float32(1e-10))
                transmittance[picture, iy, ix] = t
                last[picture, iy, ix] = last_drawn[pixel]


@_jit
def composite_backward(start, stop, width, height, tiles_x, tiles_y, tile_start, ranks, pairs, table, boxes, background,
                       depth, transmittance, last, d_color, d_alpha, d_depth, pair_grads):  # fmt: skip
    """Walk tiles [start, stop) back to front; write the gradients of each pair, pair_grads (P, GRADS).

    A pixel's loss gradient enters as one number per Gaussian, gain = colour . d_color + z d_zsum, so that what lies
    behind is one running sum: d alpha_i = T_i gain_i - behind / (1 - alpha_i).
    """
    up = np.empty((4, PIXELS), np.float32)  # gradients of the sums of red, green, blue, z
    falloffs = np.empty(TILE, np.float32)
    behind = np.empty(PIXELS, np.float32)
    trans = np.empty(PIXELS, np.float32)
    last_drawn = np.empty(PIXELS, np.int32)
    for tile in range(start, stop):
        picture = tile // (tiles_x * tiles_y)
        tile_y0 = (tile // tiles_x) % tiles_y * TILE
        tile_x0 = tile % tiles_x * TILE
        x_stop, y_stop = min(tile_x0 + TILE, width), min(tile_y0 + TILE, height)
        end = np.int32(-1)
        for iy in range(tile_y0, y_stop):
            for ix in range(tile_x0, x_stop):
                pixel = (iy - tile_y0) * TILE + ix - tile_x0
                t = transmittance[picture, iy, ix]
                last_drawn[pixel] = last[picture, iy, ix]
                end = max(end, last_drawn[pixel])
                d_solid = d_alpha[picture, iy, ix]
                for i in range(3):
                    up[i, pixel] = d_color[picture, iy, ix, i]
                    d_solid -= background[picture, i] * up[i, pixel]
                up[3, pixel] = d_depth[picture, iy, ix] / max(_ONE - t, np.float32(1e-10))
                if last_drawn[pixel] >= 0:
                    d_solid -= up[3, pixel] * depth[picture, iy, ix]
                trans[pixel] = t
                behind[pixel] = -t * d_solid
        for place in range(tile_start[tile + 1] - 1, tile_start[tile] - 1, -1):
            grads = pair_grads[pairs[place]]
            if place > end:
                grads[:] = _ZERO
                continue
            row = table[ranks[place]]
            mx, my, a, b, c, opacity = row[0], row[1], row[2], row[3], row[4], row[5]
            red, green, blue, z = row[6], row[7], row[8], row[9]
            g_x = g_y = g_a = g_b = g_c = g_o = g_red = g_green = g_blue = g_z = _ZERO
            y0, y1 = max(boxes[ranks[place], 1], tile_y0), min(boxes[ranks[place], 3], y_stop - 1)
            for iy in range(y0, y1 + 1):
                dy = np.float32(iy) + _HALF - my
                x0, x1 = _span(row, dy, tile_x0, width)
                if x0 > x1:
                    continue
                _falloffs(row, dy, tile_x0, falloffs)
                base = (iy - tile_y0) * TILE - tile_x0
                for ix in range(x0, x1 + 1):
                    pixel = base + ix
                    if place > last_drawn[pixel]:
                        continue
                    falloff = falloffs[ix - tile_x0]
                    opaque = min(opacity * falloff, _ALPHA_MAX)
                    if opaque < _ALPHA_MIN:
                        continue
                    inverse = _ONE / (_ONE - opaque)
                    t = trans[pixel] * inverse
                    trans[pixel] = t
                    weight = opaque * t
                    u_red, u_green, u_blue, u_z = up[0, pixel], up[1, pixel], up[2, pixel], up[3, pixel]
                    g_red += weight * u_red
                    g_green += weight * u_green
                    g_blue += weight * u_blue
                    g_z += weight * u_z
                    gain = red * u_red + green * u_green + blue * u_blue + z * u_z
                    d_opaque = t * gain - inverse * behind[pixel]
                    behind[pixel] += weight * gain
                    if opacity * falloff > _ALPHA_MAX:
                        continue
                    g_o += falloff * d_opaque
                    d_sigma = -opaque * d_opaque
                    dx = np.float32(ix) + _HALF - mx
                    g_a += d_sigma * dx * dx
                    g_b += d_sigma * dx * dy
                    g_c += d_sigma * dy * dy
                    g_x -= d_sigma * (a * dx + b * dy)
                    g_y -= d_sigma * (b * dx + c * dy)
            grads[0], grads[1], grads[2], grads[3], grads[4] = g_x, g_y, _HALF * g_a, g_b, _HALF * g_c
            grads[5], grads[6], grads[7], grads[8], grads[9] = g_o, g_red, g_green, g_blue, g_z


@_jit
def sum_pairs(start, stop, order, first_pair, pair_grads, d_means2d, d_conics, d_opacities, d_colors, d_depths):
    """Add up each Gaussian's pairs, ranks [start, stop). The other Gaussians' gradients must be zero before."""
    for rank in range(start, stop):
        g = order[rank]
        total = np.zeros(GRADS, np.float32)
        for pair in range(first_pair[rank], first_pair[rank + 1]):
            for i in range(GRADS):
                total[i] += pair_grads[pair, i]
        d_means2d[g, 0], d_means2d[g, 1] = total[0], total[1]
        d_conics[g, 0], d_conics[g, 1], d_conics[g, 2] = total[2], total[3], total[4]
        d_opacities[g] = total[5]
        d_colors[g, 0], d_colors[g, 1], d_colors[g, 2] = total[6], total[7], total[8]
        d_depths[g] = total[9]


@_jit
def max_pairs(start, stop, order, first_pair, pair_weight, max_weight):
    """Take the largest weight of each Gaussian's pairs, ranks [start, stop)."""
    for rank in range(start, stop):
        largest = _ZERO
        for pair in range(first_pair[rank], first_pair[rank + 1]):
            largest = max(largest, pair_weight[pair])
        max_weight[order[rank]] = largest
