"""`hsr eval`: from recordings to a report that can be trusted."""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..datasets import DATASETS
from ..errors import ConfigError
from ..settings_options import add_settings_options, parse_values, settings_of
from .jobs import raise_if_full, run_units
from .merge import write_results
from .plan import CHUNK_S, OVERLAP_S, plan_units
from .recordings import Recording, dataset_recordings, find_recordings
from .text import comparison_text, summary_text
from .unit import Unit, UnitResult

if TYPE_CHECKING:
    from .criteria import Criterion

WORK = ".units"
MOST_S = 1e6


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("eval", help="score a recording, a data set, or compare two results")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="bags, videos, folders of them, .txt lists; a data "
                        "set's folder with --dataset")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="results (default: eval/<name of the input>)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write a report")
    parser.add_argument("--dataset", choices=DATASETS, help="the input is the folder of this set")
    parser.add_argument("--split", default="", help="of the data set (default: its first)")
    parser.add_argument("--sequence", action="append", default=[], metavar="NAME", help="of the data set; repeatable")
    parser.add_argument("--body-models", default="", metavar="DIR", help="SMPL files for data sets without joints")
    parser.add_argument("--image", default="", metavar="TOPIC", help="of a bag with several cameras")
    parser.add_argument("--reference", default="", metavar="TOPIC", help="people of a bag that are the truth; `none`")
    parser.add_argument("--people", default="", metavar="TOPIC", help="score people as they were recorded in a bag")
    parser.add_argument("--cameras", default="", metavar="FILE", help="calibration of a video, .json or .toml")
    parser.add_argument("--camera", default="", metavar="NAME", help="which camera of that file")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="Ray cluster, or `local`")
    parser.add_argument("--chunk", type=float, default=CHUNK_S, metavar="S", help=f"bags are cut into parts of this "
                        f"length, 0 = not (default {CHUNK_S:g}) [s]")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=OVERLAP_S, metavar="S", help=f"before a part, not scored "
                        f"(default {OVERLAP_S:g}) [s]")  # fmt: skip
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="worst frames to draw (default 10)")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="results to compare in place of a run")
    parser.add_argument("--fail-if", action="append", default=[], metavar="'METRIC OP VALUE'",
                        help="exit with 1, as in \"pa_mpjpe > +2%%\"; repeatable")  # fmt: skip
    parser.add_argument("--criteria", type=Path, metavar="FILE.yaml", help="such conditions in a file")
    parser.add_argument("--versus", action="append", default=[], metavar="GROUP.NAME=VALUE",
                        help="run again with this setting and compare; repeatable")  # fmt: skip
    parser.add_argument("--against", type=Path, metavar="DIR", help="results that this run is compared with")
    parser.add_argument("--height", type=float, metavar="M", help="of the people [m] (subject.height_m)")
    add_settings_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate or compare; return what to show."""
    criteria = _criteria(args)
    if args.compare:
        return _judge(args, criteria, *map(Path, args.compare), {})
    recordings = _recordings(args)
    settings = settings_of(args)
    out = args.out or Path("eval") / _name(args)
    if args.versus:
        other = settings.with_values(parse_values(args.versus, "--versus"))
        first = _one_run(args, recordings, settings, out / "a")
        second = _one_run(args, recordings, other, out / "b")
        return _judge(args, criteria, out / "a", out / "b", second | {"failed": first["failed"] or second["failed"]})
    answer = _one_run(args, recordings, settings, out)
    if args.against or criteria:
        return _judge(args, criteria, args.against, out, answer)
    if args.report:
        from .report import write_report

        answer["report"] = str(write_report(out, args.report))
    return answer


def evaluate(
    recordings: list[Recording],
    settings: Settings,
    out: Path,
    *,
    name: str,
    jobs: int = 1,
    ray: str = "",
    chunk_s: float = CHUNK_S,
    overlap_s: float = OVERLAP_S,
    worst: int = 10,
) -> dict[str, Any]:
    """Run recordings through the per-frame recipe, score them and write the result files; return the summary.

    What was finished before is not done again: units are kept in `out` until their input, settings or code change.
    A recording that cannot be evaluated, or a part of it that fails three times, costs itself alone: the recording's
    `error` in the summary says why.

    Raises:
        ConfigError: Nothing to do, or a number out of range.
        NoSpace: The disk is full; what is finished is kept, and the next run goes on from there.
        HsrError: The settings, a model's files or a missing package allow nothing to be evaluated.
    """
    from tqdm import tqdm

    if not recordings:
        raise ConfigError("nothing to evaluate")
    if jobs < 1 or worst < 0 or not (0 <= chunk_s < MOST_S and 0 <= overlap_s < MOST_S):
        raise ConfigError(
            f"--jobs must be at least 1, --worst not negative, --chunk and --overlap from 0 to {MOST_S:g} s"
        )
    work = out / WORK
    begin = time.perf_counter()
    units = plan_units(recordings, settings, chunk_s=chunk_s, overlap_s=overlap_s, worst=worst)
    frames_done = parts_reused = 0
    with tqdm(total=len(units), unit="part", disable=None) as bar:

        def show(unit: Unit, result: UnitResult, reused: bool) -> None:
            nonlocal frames_done, parts_reused
            frames_done += 0 if reused else result.scores.frames
            parts_reused += reused
            bar.set_postfix_str(unit.recording.name[-30:], refresh=False)
            bar.update()

        results = run_units(units, work, jobs=jobs, ray=ray, on_done=show)
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "workers": f"ray {ray}" if ray else jobs,
        "wall_s": round(time.perf_counter() - begin, 3),
        "frames_done": frames_done,
        "parts_reused": parts_reused,
    }
    try:
        return write_results(out, units, results, work, name=name, run=facts)
    except OSError as error:
        raise_if_full(error, out)
        raise


def _one_run(args: argparse.Namespace, recordings: list[Recording], settings: Settings, out: Path) -> dict[str, Any]:
    summary = evaluate(
        recordings, settings, out, name=_name(args), jobs=args.jobs, ray=args.ray, chunk_s=args.chunk,
        overlap_s=args.overlap, worst=args.worst,
    )  # fmt: skip
    return _answer(summary, out) | {"text": summary_text(summary, str(out))}


def _criteria(args: argparse.Namespace) -> list[Criterion]:
    """Return the conditions, read before anything runs.

    Raises:
        ConfigError: Of a condition, or options that do not go together.
    """
    from .criteria import load_criteria, parse_fail_if, require_none_relative
    from .result_folder import ResultFolder

    for taken, needs, others in (
        ("--compare", args.compare, ("inputs", "dataset", "versus", "against")),
        ("--versus, which runs what is compared,", args.versus, ("against",)),
        ("--dataset", args.dataset, ("image", "reference", "people", "cameras", "camera")),
        ("an input without --dataset", not args.dataset, ("split", "sequence", "body_models")),
        ("an input without --cameras", not args.cameras, ("camera",)),
    ):
        wrong = [name for name in others if needs and getattr(args, name)]
        if wrong:
            listed = ", ".join("INPUT" if name == "inputs" else f"--{name.replace('_', '-')}" for name in wrong)
            raise ConfigError(f"{taken} does not go together with {listed}")
    criteria = [parse_fail_if(text) for text in args.fail_if]
    criteria += load_criteria(args.criteria) if args.criteria else ()
    if not (args.compare or args.versus or args.against):
        require_none_relative(criteria)
    if args.against:
        ResultFolder(args.against)
    return criteria


def _recordings(args: argparse.Namespace) -> list[Recording]:
    if not args.inputs:
        raise ConfigError("give a recording, a data set's folder with --dataset, or two results with --compare")
    if args.dataset:
        if len(args.inputs) > 1:
            raise ConfigError("--dataset takes one folder")
        return dataset_recordings(
            args.dataset, args.inputs[0], args.sequence, split=args.split, body_models=args.body_models
        )
    options = {name: getattr(args, name) for name in ("image", "reference", "people", "cameras", "camera")}
    return find_recordings(args.inputs, **options)


def _name(args: argparse.Namespace) -> str:
    return Path(args.inputs[0]).resolve().name if len(args.inputs) == 1 else f"{len(args.inputs)} recordings"


def _answer(summary: dict[str, Any], out: Path) -> dict[str, Any]:
    metrics = {name: figure["value"] for name, figure in summary["metrics"].items()}
    errors = {part["name"]: part["error"] for part in summary["recordings"] if part["error"]}
    answer = {
        "out": str(out), "frames": summary["frames"], "metrics": metrics, "protocol": summary["protocol"],
        "timing": summary["timing"], "sha256": summary["sha256"], "notes": summary["notes"],
    }  # fmt: skip
    return answer | ({"errors": errors} if errors else {}) | {"failed": bool(errors)}


def _judge(
    args: argparse.Namespace, criteria: list[Criterion], a: Path | None, b: Path, answer: dict[str, Any]
) -> dict[str, Any]:
    """Compare results a and b, check the conditions on b, write the report; add all of it to the answer."""
    from .compare import compare
    from .criteria import as_text, check
    from .result_folder import ResultFolder

    comparison = compare(a, b) if a else None
    folder = ResultFolder(b)
    outcomes = check(criteria, folder.summary, comparison, folder)
    texts = [answer["text"]] if "text" in answer else []
    if comparison is not None:
        answer["comparison"] = comparison
        texts.append(comparison_text(comparison))
    if criteria:
        answer["criteria"] = [outcome.to_dict() for outcome in outcomes]
        answer["failed"] = answer.get("failed", False) or any(outcome.failed for outcome in outcomes)
        texts.append(as_text(outcomes))
    answer["text"] = "\n".join(texts)
    if args.report:
        from .report import write_report

        answer["report"] = str(write_report(folder.path, args.report, comparison, outcomes))
    return answer
