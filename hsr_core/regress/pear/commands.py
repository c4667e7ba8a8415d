"""`hsr weights`: what a checkpoint holds, and random ones of the same format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from .checkpoint import check, make_test
from .network import SIZES


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("weights", help="look into PEAR's checkpoint, or write a random one")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    checked = actions.add_parser("check", help="load a checkpoint strictly and report what it holds")
    checked.add_argument("file", type=Path, metavar="FILE")
    checked.add_argument("--heads", type=int, default=0, help="attention heads of the backbone; 0 = by its width")
    made = actions.add_parser("make-test", help="write a random checkpoint of the published format")
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--size", choices=sorted(SIZES), default="tiny", help="vith is the published one, 2.7 GB")
    made.add_argument("--seed", type=int, default=0)
    for action in (checked, made):
        action.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what was asked and return what there is to show."""
    if args.action == "make-test":
        try:
            make_test(args.file, args.size, seed=args.seed)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch, when it cannot write
            raise ConfigError(f"{args.file} cannot be written: {str(error).splitlines()[0]}") from error
    return check(args.file, heads=getattr(args, "heads", 0))
