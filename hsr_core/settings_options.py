"""The options by which commands take settings, and a video with its camera."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from .config import Settings


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add --cameras, --camera and --height."""
    parser.add_argument("--cameras", type=Path, metavar="FILE", help="calibration of a video, .json or .toml")
    parser.add_argument("--camera", default="", metavar="NAME", help="which camera of that file")
    parser.add_argument("--height", type=float, metavar="M", help="the person's height in metres (subject.height_m)")


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Add --cameras, --camera, --height and --max-frames."""
    add_camera_options(parser)
    parser.add_argument("--max-frames", type=int, metavar="N", help="read at most N frames")


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Add --regressor, --settings and --set."""
    parser.add_argument("--regressor", metavar="NAME", help="auto, landmarks, pear, fake, or a plug-in's name")
    parser.add_argument("--settings", type=Path, metavar="FILE.yaml", help="settings file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="GROUP.NAME=VALUE", help="one setting; may be repeated"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings file's, then those of --set, then the options that have a name of their own.

    Raises:
        ConfigError: A name or a value is not known; the message says which are.
    """
    from .config import Settings, load_settings

    settings = load_settings(args.settings) if args.settings else Settings()
    values = parse_values(args.set, "--set")
    if args.regressor:
        values["regressor"] = args.regressor
    if getattr(args, "height", None) is not None:
        values["subject.height_m"] = args.height
    return settings.with_values(values)


def parse_values(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Return the values of several GROUP.NAME=VALUE, read as YAML.

    Raises:
        ConfigError: One has another form.
    """
    import yaml

    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} wants GROUP.NAME=VALUE, not {text!r}")
        try:
            values[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option} {name}: {value!r} is not a value: {error}") from error
    return values
