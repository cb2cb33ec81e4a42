"""What `python -m runtimes` has started and can stand in for an OpenVINO Model Server."""

from __future__ import annotations

from runtimes.v2.clients import running

collect_ignore_glob = [
    *(["test_openvino_tensors.py"] if not any(map(running, ("triton", "kserve"))) else []),
    *(["test_openvino_text.py"] if not running("vllm") else []),
]
