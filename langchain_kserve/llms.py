"""Text completion with models on KServe: one class per runtime."""

from langchain_kserve import _runtimes
from langchain_kserve._base_llm import RuntimeLLM
from langchain_kserve._caikit_fields import CaikitConnection, CaikitFields
from langchain_kserve._tgis_fields import TGISTextFields
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
