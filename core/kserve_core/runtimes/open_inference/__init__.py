"""The Open Inference Protocol (V2), which Triton, MLServer, OpenVINO Model Server and KServe's own server speak."""
