"""Put the networks of the mediapipe wheel into this environment on machines for which there is no such wheel (arm64).

The networks are data, the same in every wheel of that version; mediapipe's code is neither unpacked nor run.

python docker/networks_for_arm64.py [FOLDER]          FOLDER: site-packages; this Python's unless given
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

VERSION = "0.10.21"
OTHER_MACHINE = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.12", "--abi", "cp312")


def main(site: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--no-deps", "--only-binary=:all:", *OTHER_MACHINE, "--dest", folder, f"mediapipe=={VERSION}"]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                network = name.startswith("mediapipe/modules/") and name.endswith(".tflite")
                if network or name.endswith((".dist-info/METADATA", ".dist-info/LICENSE")):
                    wheel.extract(name, site)
    (site / "mediapipe" / "__init__.py").write_text('"""Networks only: hsr_core reads them, LiteRT runs them."""\n')


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_paths()["purelib"]))
