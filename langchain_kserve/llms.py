"""Text completion with models on KServe: one class per runtime."""

from langchain_kserve import _runtimes
from langchain_kserve._base_llm import RuntimeLLM
from langchain_kserve._caikit_fields import CaikitConnection, CaikitFields
from langchain_kserve._openvino_fields import OpenVINOTextFields
from langchain_kserve._tgis_fields import TGISTextFields
from langchain_kserve._v2_fields import TEXT_OPTIONS, TextClass, TextFields, V2TextParameters
from langchain_kserve._vllm_fields import VLLMTextFields


class VLLM(RuntimeLLM, VLLMTextFields):
    r"""A model served by vLLM, completing text as it stands, without a chat template.

    For conversations and tools use `ChatVLLM`.

    ???+ example

        ```python
        from langchain_kserve import VLLM

        llm = VLLM(base_url="https://llm-demo.apps.example.com/v1", api_key="...", max_tokens=64)
        llm.invoke("The capital of France is")
        llm.batch(["1, 2, 3,", "a, b, c,"])  # one request
        llm.invoke("Is the sky blue?", guided_choice=["yes", "no"])
        for token in llm.stream("Once upon a time", stop=["\n"]):
            print(token, end="")
        ```
    """

    _declaration = _runtimes.VLLM
    _parameters = VLLMTextFields


class CaikitLLM(RuntimeLLM, CaikitFields, CaikitConnection):
    r"""A model served by Caikit, with TGIS behind it or alone, completing text over REST or gRPC.

    Set `max_tokens`: the server stops after 20 tokens otherwise. Several prompts are sent side by side, since Caikit
    takes one at a time. Streams need TGIS behind the server.

    ???+ example

        ```python
        from langchain_kserve import CaikitLLM

        llm = CaikitLLM(base_url="https://flan-t5-demo.apps.example.com", api_key="...", max_tokens=64)
        llm.invoke("The capital of France is")
        for token in llm.stream("Once upon a time", stop=["\n"]):
            print(token, end="")
        CaikitLLM(base_url="grpcs://flan-t5-demo.apps.example.com:443", model="flan-t5", temperature=0.7)
        ```
    """

    _declaration = _runtimes.CAIKIT
    _parameters = CaikitFields
    _codec_options = ("route_prefix",)


class TGISLLM(RuntimeLLM, TGISTextFields):
    r"""A model served by TGIS, the classic server or vLLM with the TGIS adapter, completing text over gRPC.

    All prompts of a batch travel in one request. Set `max_tokens`: the classic server stops after 20 tokens otherwise.
    Forms (`guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`) are honored by the vLLM-backed server; the
    classic one skips them without a word.

    ???+ example

        ```python
        from langchain_kserve import TGISLLM

        llm = TGISLLM(base_url="grpcs://granite-demo.apps.example.com:443", api_key="...", max_tokens=64)
        llm.batch(["The capital of France is", "1, 2, 3,"])  # one request
        llm.invoke("Is the sky blue?", guided_choice=["yes", "no"])
        for token in llm.stream("Once upon a time", stop=["\n"]):
            print(token, end="")
        ```
    """

    _declaration = _runtimes.TGIS
    _parameters = TGISTextFields
    _codec_options = ("adapter_id", "prefix_id")


class TritonLLM(TextClass, RuntimeLLM, V2TextParameters, TextFields):
    r"""A model served by Triton, completing text over REST or gRPC.

    The model is one of the vLLM backend, the TensorRT-LLM ensemble, or any other that takes and gives text; which
    inputs take the prompt and the parameters is found from its metadata. A parameter it has no place for is an error.

    Several prompts are sent side by side, and batched by the server as it is configured. Set `max_tokens`: backends
    stop after few tokens otherwise (vLLM's after 16).

    ???+ example

        ```python
        from langchain_kserve import TritonLLM

        llm = TritonLLM(base_url="https://llama-demo.apps.example.com", api_key="...", model="llama", max_tokens=64)
        llm.invoke("The capital of France is")
        for token in llm.stream("Once upon a time", stop=["\n"]):
            print(token, end="")
        TritonLLM(base_url="grpcs://llama-demo.apps.example.com:443", model="llama", temperature=0.7)
        ```
    """

    _declaration = _runtimes.TRITON
    _parameters = V2TextParameters
    _codec_options = TEXT_OPTIONS


class MLServerLLM(TextClass, RuntimeLLM, V2TextParameters, TextFields):
    r"""A model served by MLServer, by its Hugging Face runtime or one of your own, completing text over REST or gRPC.

    The Hugging Face runtime takes the arguments of its pipeline (`max_tokens`, `temperature`, `top_p`, ...), and no
    `seed`; a model of your own takes what it declares inputs for. The prompt is taken off the answer where the server
    repeats it. The Hugging Face runtime cannot stream: the answer then comes as one piece.

    ???+ example

        ```python
        from langchain_kserve import MLServerLLM

        llm = MLServerLLM(base_url="https://gpt2-demo.apps.example.com", api_key="...", model="gpt2", max_tokens=64)
        llm.invoke("The capital of France is")
        llm.batch(["1, 2, 3,", "a, b, c,"], stop=["\n"])
        ```
    """

    _declaration = _runtimes.MLSERVER
    _parameters = V2TextParameters
    _codec_options = TEXT_OPTIONS


class OpenVINOLLM(RuntimeLLM, OpenVINOTextFields):
    r"""A model served by OpenVINO Model Server, completing text as it stands, under `/v3`.

    For conversations and tools use `ChatOpenVINO`. Several prompts are sent side by side, since the server takes one
    at a time. Log-probabilities are not told in streams, and at most four stop texts can be given.

    ???+ example

        ```python
        from langchain_kserve import OpenVINOLLM

        llm = OpenVINOLLM(base_url="https://qwen-demo.apps.example.com/v3", api_key="...", max_tokens=64)
        llm.invoke("The capital of France is")
        for token in llm.stream("Once upon a time", stop=["\n"]):
            print(token, end="")
        ```
    """

    _declaration = _runtimes.OPENVINO_TEXT
    _parameters = OpenVINOTextFields
