"""The Open Inference Protocol (V2) over REST and gRPC.

Triton, MLServer, KServe's own server and OpenVINO Model Server speak it. Which of them is the server's `runtime`;
`ways` says where they differ.
"""

from kserve_core.devserver.wires.v2.wire import V2Wire

__all__ = ["V2Wire"]
