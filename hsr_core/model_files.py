"""Networks that the user puts in place: which files, from where, under which licence. Nothing is downloaded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError, DeviceError, MissingFile
from .paths import model_dir


@dataclass(frozen=True)
class NetworkPlace:
    """Where networks lie and what runs them.

    Attributes:
        folder: The folder with the user's networks.
        device, engine: As the settings of the same names.
    """

    folder: Path = field(default_factory=model_dir)
    device: str = "auto"
    engine: str = "auto"

    def torch_device(self) -> str:
        """Return cuda or cpu for what `device` asks for.

        Raises:
            DeviceError: cuda was asked for and is not there.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("device cuda was asked for, and torch sees none: check nvidia-smi, or set device to cpu")
        return "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one provider.

    Attributes:
        provider: Its registry name.
        folder: Below the folder of networks.
        choices: Alternatives, best first; each is a tuple of file names that belong together.
        licence: Of code and weights.
        source: Where the user gets them.
        noncommercial: True when the licence forbids commercial use.
    """

    provider: str
    folder: str
    choices: tuple[tuple[str, ...], ...]
    licence: str
    source: str
    noncommercial: bool = False

    def find(self, root: Path) -> tuple[Path, ...] | None:
        """Return the paths of the first alternative that is complete, or None."""
        for names in self.choices:
            paths = tuple(root / self.folder / name for name in names)
            if all(path.is_file() for path in paths):
                return paths
        return None

    def require(self, root: Path) -> tuple[Path, ...]:
        """Return the paths of the first alternative that is complete.

        Raises:
            MissingFile: The message names the files, the folder, where to get them, and the licence.
        """
        found = self.find(root)
        if found is None:
            wanted = ", or ".join(" with ".join(names) for names in self.choices)
            raise MissingFile(
                f"{self.provider} needs {wanted} in {root / self.folder}; get them from {self.source} ({self.licence})"
            )
        return found

    def require_accepted(self, accepted: bool) -> None:
        """Refuse a non-commercial licence that has not been accepted.

        Raises:
            ConfigError: It has not; the message names the setting.
        """
        if self.noncommercial and not accepted:
            raise ConfigError(
                f"{self.provider} is licensed {self.licence}: no commercial use. If that fits yours, set "
                "depth.accept_noncommercial to true"
            )


def report(files: Sequence[ModelFiles], root: Path, accepted: bool) -> list[str]:
    """Return one line per provider: found or missing, what is expected where, and the licence."""
    lines = []
    for entry in files:
        found = entry.find(root)
        wanted = " or ".join(" + ".join(names) for names in entry.choices)
        state = "missing" if found is None else "found"
        if found is not None and entry.noncommercial and not accepted:
            state = "found, licence not accepted (depth.accept_noncommercial)"
        lines.append(f"{entry.provider}: {state}; {root / entry.folder}/{wanted}; {entry.licence}; {entry.source}")
    return lines
