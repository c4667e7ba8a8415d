"""The files of a LeRobotDataset v3.0: tables by pyarrow, videos by av, statistics. Nothing here knows of people.

Source:
    The layout of LeRobot's dataset format v3.0 (Hugging Face), as its reader asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import BadFile, MissingPackage
from ..types import Array

VERSION = "v3.0"
CHUNK_FILES, DATA_MB, VIDEO_MB = 1000, 100, 200
PATTERN = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{PATTERN}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{PATTERN}.mp4"
EPISODES_PATH = f"meta/episodes/{PATTERN}.parquet"
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
AUTOMATIC = {
    "timestamp": np.dtype(np.float32), "frame_index": np.dtype(np.int64), "episode_index": np.dtype(np.int64),
    "index": np.dtype(np.int64), "task_index": np.dtype(np.int64),
}  # fmt: skip
"""Columns that every data set has."""
_BLOCK = 2048


@dataclass(frozen=True)
class Feature:
    """One column.

    Attributes:
        dtype: float32, int64 or bool.
        shape: Of one frame; (1,) is a number.
        names: Of its entries, or None.
    """

    dtype: str
    shape: tuple[int, ...]
    names: Sequence[str] | None = None

    def as_info(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "shape": list(self.shape), "names": self.names and list(self.names)}


class Table:
    """Columns of one episode on the disk, filled piece by piece.

    Args:
        folder: For the files.
        features: Name -> feature.
        length: Frames.
    """

    def __init__(self, folder: Path, features: Mapping[str, Feature], length: int) -> None:
        folder.mkdir()
        self.features, self.length = dict(features), length
        self.columns = {
            name: np.memmap(folder / f"{i}.column", entry.dtype, "w+", shape=(length, *entry.shape))
            for i, (name, entry) in enumerate(features.items())
        }

    def statistics(self) -> dict[str, dict[str, Array]]:
        """Return min, max, mean, std, count and quantiles of every column, NaN left out."""
        return {name: statistics(values) for name, values in self.columns.items()}


def statistics(values: Array) -> dict[str, Array]:
    """Return the statistics of frames (n, ...) per entry; an entry that is never known is NaN in none of them but 0.

    One entry is read at a time, so that `values` may be a memory map.
    """
    flat = values.reshape(len(values), -1)
    out = {name: np.zeros(flat.shape[1]) for name in ("min", "max", "mean", "std", *QUANTILES)}
    for k in range(flat.shape[1]):
        known = flat[:, k].astype(np.float64)
        known = known[np.isfinite(known)]
        if known.size:
            numbers = known.min(), known.max(), known.mean(), known.std(), *np.quantile(known, list(QUANTILES.values()))
            for name, number in zip(out, numbers, strict=True):
                out[name][k] = number
    stats = {name: numbers.reshape(values.shape[1:]) for name, numbers in out.items()}
    return stats | {"count": np.array([len(values)])}


def merged(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the statistics of several episodes together. Quantiles are means of quantiles, as the library has it."""
    counts = np.array([float(part["count"][0]) for part in parts])
    share = counts / counts.sum()

    def weighted(values: Sequence[Array]) -> Array:
        return np.tensordot(share, np.stack(values), 1)

    mean = weighted([part["mean"] for part in parts])
    variance = weighted([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
        **{name: weighted([part[name] for part in parts]) for name in QUANTILES},
    }


def pyarrow() -> Any:
    """Return pyarrow with its parquet module.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackage("lerobot data sets need pyarrow: pip install 'hsr-core[lerobot]'") from error
    return pyarrow


@dataclass(frozen=True)
class Present:
    """A data set that episodes are added to; every number is 0 for a new one.

    Attributes:
        info: Its meta/info.json; {} = none.
        stats: Of everything so far: column -> statistics.
        tasks: Their sentences.
        data_files, video_files, episode_files: How many there are.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    data_files: int = 0
    video_files: int = 0
    episode_files: int = 0

    @property
    def episodes(self) -> int:
        return self.info.get("total_episodes", 0)

    @property
    def frames(self) -> int:
        return self.info.get("total_frames", 0)


def present(root: Path) -> Present:
    """Read what is needed to add to a data set.

    Raises:
        BadFile: It is none of version 3.0, or its tables do not have as many rows as it says.
    """
    pa = pyarrow()
    try:
        info = json.loads((root / "meta/info.json").read_text())
        stats = json.loads((root / "meta/stats.json").read_text())
        tasks = pa.parquet.read_table(root / "meta/tasks.parquet").to_pydict()["__index_level_0__"]
        data = sorted((root / "data").glob("*/*.parquet"))
        rows = sum(pa.parquet.read_metadata(path).num_rows for path in data)
    except (OSError, ValueError, KeyError) as error:
        raise BadFile(f"{root} is no LeRobot data set that can be added to: {error}") from error
    if info.get("codebase_version") != VERSION or rows != info.get("total_frames"):
        raise BadFile(
            f"{root} is of version {info.get('codebase_version')} with {rows} rows for {info.get('total_frames')} "
            f"frames; only whole data sets of {VERSION} can be added to"
        )
    arrays = {name: {key: np.array(value) for key, value in part.items()} for name, part in stats.items()}
    videos = list((root / "videos").glob("*/*/*.mp4"))
    episodes = list((root / "meta/episodes").glob("*/*.parquet"))
    return Present(info, arrays, tuple(tasks), len(data), len(videos), len(episodes))


class DataFiles:
    """Writes episodes into parquet files, several a file until one is full.

    Args:
        root: Of the data set.
        before: What is there already; new files follow.
    """

    def __init__(self, root: Path, before: Present = Present()) -> None:
        self._root, self._pa = root, pyarrow()
        self._file, self._writer = before.data_files, None
        self.frames = before.frames

    def add(self, table: Table) -> dict[str, int]:
        """Append an episode and return where it is."""
        path = self._root / DATA_PATH.format(**_place(self._file))
        if self._writer is not None and path.stat().st_size > DATA_MB << 20:
            self.close()
            self._file += 1
            path = self._root / DATA_PATH.format(**_place(self._file))
        for start in range(0, table.length, _BLOCK):
            columns = {name: self._array(values[start : start + _BLOCK]) for name, values in table.columns.items()}
            block = self._pa.table(columns)
            if self._writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = self._pa.parquet.ParquetWriter(path, block.schema, compression="snappy")
            self._writer.write_table(block)
        begin, self.frames = self.frames, self.frames + table.length
        return {
            **{f"data/{name}": number for name, number in _place(self._file).items()},
            "dataset_from_index": begin,
            "dataset_to_index": self.frames,
        }

    def _array(self, values: Array) -> Any:
        """Return (n, ...) as a column: numbers, or lists of a fixed length, nested as the shape is."""
        flat = self._pa.array(np.ascontiguousarray(values).reshape(-1))
        for size in reversed(values.shape[1:]):
            if values.shape[1:] == (1,):
                break
            flat = self._pa.FixedSizeListArray.from_arrays(flat, size)
        if values.ndim > 2:  # the reader's arrays of two axes are lists of lists
            inner = self._pa.list_(self._pa.list_(self._pa.from_numpy_dtype(values.dtype)))
            flat = flat.cast(inner)
        return flat

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


@dataclass
class VideoFiles:
    """Encodes pictures of many episodes into one video after the other, one picture a tick.

    Attributes:
        root: Of the data set. key: Such as observation.images.camera. fps: Whole.
    """

    root: Path
    key: str
    fps: int
    image_hw: tuple[int, int] = (0, 0)
    codec: str = ""
    _file: int = 0
    _frames: int = 0
    _container: Any = None
    _stream: Any = None
    _sampled: list[Array] = field(default_factory=list)

    def begin(self) -> None:
        """Begin an episode; a file that is full is finished first."""
        # The file comes with the encoder's first packet, which may be later than the first episode's end.
        if self._container is not None and self._path.exists() and self._path.stat().st_size > VIDEO_MB << 20:
            self.close()
            self._file, self._frames = self._file + 1, 0
        self._begin, self._sampled = self._frames, []

    def write(self, image_rgb: NDArray[np.uint8]) -> None:
        """Append a picture (H, W, 3)."""
        if self._container is None:
            self._open(image_rgb.shape)
        height, width = self.image_hw
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_rgb[:height, :width]), format="rgb24")
        picture.pts, picture.time_base = self._frames, Fraction(1, self.fps)
        self._container.mux(self._stream.encode(picture))
        if (self._frames - self._begin) % 10 == 0 and len(self._sampled) < 300:
            self._sampled.append(image_rgb[:height:8, :width:8].reshape(-1, 3) / 255.0)
        self._frames += 1

    def end(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """End an episode; return where it is, and statistics per colour of every tenth picture."""
        pixels = np.concatenate(self._sampled)
        stats = {name: value.reshape(3, 1, 1) for name, value in statistics(pixels).items() if name != "count"}
        where = {
            **{f"videos/{self.key}/{name}": number for name, number in _place(self._file).items()},
            f"videos/{self.key}/from_timestamp": self._begin / self.fps,
            f"videos/{self.key}/to_timestamp": self._frames / self.fps,
        }
        return where, stats | {"count": np.array([len(self._sampled)])}

    @property
    def _path(self) -> Path:
        return self.root / VIDEO_PATH.format(video_key=self.key, **_place(self._file))

    def _open(self, shape: tuple[int, ...]) -> None:
        self.image_hw = shape[0] // 2 * 2, shape[1] // 2 * 2  # 4:2:0 wants even sizes
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._path), "w")
        os.environ.setdefault("SVT_LOG", "1")  # errors alone: the encoder writes to the terminal by itself
        name = "libsvtav1" if "libsvtav1" in av.codec.codecs_available else "libx264"
        options = {"crf": "30", "g": "2", **({"preset": "10"} if name == "libsvtav1" else {})}
        self._stream = self._container.add_stream(name, rate=self.fps, options=options)
        self._stream.height, self._stream.width = self.image_hw
        self._stream.pix_fmt, self._stream.time_base = "yuv420p", Fraction(1, self.fps)
        self.codec = "av1" if name == "libsvtav1" else "h264"

    def as_info(self) -> dict[str, Any]:
        height, width = self.image_hw
        facts = {
            "video.height": height, "video.width": width, "video.codec": self.codec, "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False, "video.fps": self.fps, "video.channels": 3, "has_audio": False,
        }  # fmt: skip
        return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": facts}

    def close(self) -> None:
        """Finish the file."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None


def write_meta(
    root: Path,
    *,
    fps: int,
    robot_type: str | None,
    features: Mapping[str, Any],
    episodes: Sequence[Mapping[str, Any]],
    stats: Sequence[Mapping[str, Mapping[str, Array]]],
    tasks: Sequence[str],
    video: bool,
    before: Present = Present(),
) -> None:
    """Write info, statistics, tasks and episodes.

    Args:
        before: What is there already and is counted in.
        episodes: Per episode: episode_index, tasks, length, and where its data and videos are.
        stats: Per episode: column -> statistics.
    """
    info = {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": before.episodes + len(episodes),
        "total_frames": before.frames + sum(episode["length"] for episode in episodes),
        "total_tasks": len(tasks),
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{before.episodes + len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if video else None,
        "features": dict(features),
    }
    meta = root / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n")
    parts = [*([before.stats] if before.stats else []), *stats]
    total = {name: merged([part[name] for part in parts]) for name in stats[0]}
    lists = {name: {key: value.tolist() for key, value in part.items()} for name, part in total.items()}
    (meta / "stats.json").write_text(json.dumps(lists, indent=4) + "\n")
    _write_tasks(meta / "tasks.parquet", tasks)
    _write_episodes(root, episodes, stats, before.episode_files)


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write the tasks as pandas would a table indexed by their sentences."""
    pa, index = pyarrow(), "__index_level_0__"
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(list(tasks))})
    column = {"metadata": None, "numpy_type": "int64", "pandas_type": "int64"}
    text = {"metadata": None, "numpy_type": "object", "pandas_type": "unicode"}
    pandas = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column}, {"name": None, "field_name": index, **text},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }  # fmt: skip
    pa.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_episodes(
    root: Path, episodes: Sequence[Mapping[str, Any]], stats: Sequence[Mapping[str, Any]], file: int
) -> None:
    pa, place = pyarrow(), _place(file)
    rows = []
    for episode, part in zip(episodes, stats, strict=True):
        flat = {f"stats/{name}/{key}": value.tolist() for name, entry in part.items() for key, value in entry.items()}
        rows.append({**episode, **flat, **{f"meta/episodes/{name}": number for name, number in place.items()}})
    path = root / EPISODES_PATH.format(**place)
    path.parent.mkdir(parents=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path, compression="snappy")
