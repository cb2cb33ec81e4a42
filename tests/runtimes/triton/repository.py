"""Writes what Triton is started with: a repository of models and a folder with the Python backend."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runtimes.v2.catalogue import MODELS, Model, Tensor

TESTS = Path(__file__).resolve().parents[2]
_MODEL = """import sys

sys.dont_write_bytecode = True
sys.path[:0] = {places!r}
from runtimes.triton.models import TritonPythonModel  # noqa: F401
"""


def write_repository(folder: Path, names: Iterable[str], python: Path) -> Path:
    """A repository of some of the models.

    Args:
        folder: Where to; made here.
        names: Which models.
        python: The interpreter whose packages they need; Triton's own looks at no variable that names them.
    """
    code = _MODEL.format(places=[str(packages(python)), str(TESTS)])
    for name in names:
        model = MODELS[name]
        for version in model.versions:
            place = folder / name / str(version)
            place.mkdir(parents=True)
            (place / "model.py").write_text(code, encoding="utf-8")
        (folder / name / "config.pbtxt").write_text(_config(name, model), encoding="utf-8")
    return folder


def _config(name: str, model: Model) -> str:
    lines = [f'name: "{name}"', 'backend: "python"', f"max_batch_size: {model.max_batch_size}"]
    lines += [f"input [ {_tensor(one)} ]" for one in model.inputs]
    lines += [f"output [ {_tensor(one)} ]" for one in model.outputs]
    lines.append("instance_group [ { count: 1 kind: KIND_CPU } ]")
    if model.decoupled:
        lines.append("model_transaction_policy { decoupled: true }")
    elif model.max_batch_size:
        lines.append("dynamic_batching { max_queue_delay_microseconds: 500 }")
    if len(model.versions) > 1:
        lines.append(f"version_policy {{ specific {{ versions: {list(model.versions)} }} }}")
    return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor) -> str:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    optional = " optional: true" if tensor.optional else ""
    return f'{{ name: "{tensor.name}" data_type: TYPE_{kind} dims: {list(tensor.shape)}{optional} }}'


def packages(python: Path) -> Path:
    """The folder of an environment's packages."""
    (found,) = python.parent.parent.glob("lib/python3.*/site-packages")
    return found


def write_backends(folder: Path, python: Path) -> Path:
    """A backend folder with the stub of this Python, which the package keeps apart.

    Raises:
        FileNotFoundError: If the package has none for this Python.
    """
    server = packages(python) / "pytriton" / "tritonserver"
    version = packages(python).parent.name.removeprefix("python")
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        msg = f"Triton's Python backend knows no Python {version}"
        raise FileNotFoundError(msg)
    place = folder / "python"
    place.mkdir(parents=True)
    shutil.copy(server / "backends" / "python" / "triton_python_backend_utils.py", place)
    (place / "libtriton_python.so").symlink_to(server / "backends" / "python" / "libtriton_python.so")
    (place / stub.name).symlink_to(stub)
    return folder


def library_path(python: Path) -> str:
    """`LD_LIBRARY_PATH` that has this Python's own library first: a system's of another make breaks its modules."""
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"]
    own = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return os.pathsep.join(filter(None, [own, os.environ.get("LD_LIBRARY_PATH")]))
