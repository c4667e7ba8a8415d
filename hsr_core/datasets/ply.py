"""Vertices of a PLY mesh, ASCII or binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import BadFile, MissingFile
from ..types import Array

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_vertices(path: Path) -> Array:
    """Return the vertices (V, 3), float64, in the file's units; their element must come first, as it does everywhere.

    Raises:
        MissingFile: No such file.
        BadFile: It is torn, or no PLY with x, y, z.
    """
    if not path.is_file():
        raise MissingFile(f"no mesh {path}")
    data = path.read_bytes()
    head, mark, body = data.partition(b"end_header\n")
    lines = head.decode("latin1").split("\n")
    try:
        if not mark or lines[0].strip() != "ply":
            raise ValueError("no header of a PLY")
        kind, count, fields = _vertex_element([line.split() for line in lines[1:] if line.strip()])
        if kind == "ascii":
            rows = [line.split() for line in body.decode("latin1").splitlines()[:count]]
            table = np.array(rows, np.float64)
            names = [name for name, _ in fields]
            points = np.stack([table[:, names.index(axis)] for axis in "xyz"], axis=1)
        else:
            order = ">" if kind == "binary_big_endian" else "<"
            dtype = np.dtype([(name, order + _TYPES[kind]) for name, kind in fields])
            records = np.frombuffer(body, dtype, count)
            points = np.stack([records[axis].astype(np.float64) for axis in "xyz"], axis=1)
    except (ValueError, KeyError, IndexError) as error:
        raise BadFile(f"{path} is torn, or no PLY with vertices: {error}; unpack it again") from error
    if len(points) != count:
        raise BadFile(f"{path} announces {count} vertices and holds {len(points)}; unpack it again")
    return points


def _vertex_element(header: list[list[str]]) -> tuple[str, int, list[tuple[str, str]]]:
    """Return format, number of vertices, and (name, type) of each property of a vertex."""
    kind = next(words[1] for words in [*header, ["format", "ascii"]] if words[0] == "format")
    elements = [i for i, words in enumerate(header) if words[0] == "element"]
    if not elements or header[elements[0]][1] != "vertex":
        raise ValueError("its first element is not vertex")
    last = elements[1] if len(elements) > 1 else len(header)
    fields = [(words[2], words[1]) for words in header[elements[0] + 1 : last] if words[0] == "property"]
    return kind, int(header[elements[0]][2]), fields
