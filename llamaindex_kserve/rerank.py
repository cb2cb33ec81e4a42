"""Rerankers: one base class that drives any runtime, and a class per runtime."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import Field

from kserve_core.batching import rerank_all
from kserve_core.calls import Flow
from kserve_core.capabilities import RerankRequest
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.vllm import VLLMRuntime
from kserve_core.types import Ranking
from llamaindex_kserve._caikit import CaikitConnection
from llamaindex_kserve._connection import ConnectionMixin
from llamaindex_kserve._tensors import API, SERVER, TensorConnection

dispatcher = get_dispatcher(__name__)

_RETRIEVAL_SCORE = "retrieval_score"


class KServeRerank(ConnectionMixin, BaseNodePostprocessor):
    """Orders retrieved nodes by relevance to the query with any runtime that reranks; use your runtime's class.

    The nodes given are never changed: the answer holds new `NodeWithScore` objects, best first.
    """

    model: str | None = Field(default=None, description="The model's name, when the endpoint serves several models.")
    top_n: int | None = Field(default=None, ge=1, description="How many of the best nodes to keep; None keeps all.")
    keep_retrieval_score: bool = Field(
        default=False,
        description=(
            "Keep the score a node came with, as `retrieval_score` in the metadata of a copy of the node. "
            "Neither the LLM nor an embedding model is shown it."
        ),
    )
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which of a node's metadata the reranker reads with its text."
    )
    truncate: int | None = Field(
        default=None,
        ge=-1,
        description="Cut longer inputs to this many tokens; -1 for the model's own limit. Without it they are errors.",
    )
    extra_body: Mapping[str, Any] = Field(
        default_factory=dict, description="Sent along with every request as given, over everything else."
    )
    request_batch_size: int = Field(default=64, gt=0, exclude=True, description="Nodes per request.")
    max_concurrency: int = Field(
        default=8, gt=0, exclude=True, description="Requests in flight at once for one long list."
    )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps."""
        return cls.__name__

    def _flow(self, query: str, nodes: Sequence[NodeWithScore]) -> Flow[Ranking]:
        return rerank_all(
            self.client.runtime,
            query,
            [node.get_content(metadata_mode=self.metadata_mode) for node in nodes],
            model=self.model,
            top_n=self.top_n,
            truncate=self.truncate,
            batch_size=self.request_batch_size,
            concurrency=self.max_concurrency,
            extra_body=self.extra_body,
        )

    def _about(self, query: str, nodes: Sequence[NodeWithScore]) -> RerankRequest:
        # Telemetry tells how many documents there are, not what is in them.
        return RerankRequest(query=query, documents=[""] * len(nodes), model=self.model, top_n=self.top_n)

    def _ranked(self, nodes: Sequence[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
        ranked = []
        for place in ranking.results:
            given = nodes[place.index]
            node = self._with_retrieval_score(given) if self.keep_retrieval_score else given.node
            ranked.append(NodeWithScore(node=node, score=place.score))
        return ranked

    @staticmethod
    def _with_retrieval_score(given: NodeWithScore) -> BaseNode:
        node = given.node
        hidden = {
            name: [*getattr(node, name), *({_RETRIEVAL_SCORE} - set(getattr(node, name)))]
            for name in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
        }
        return node.model_copy(update={"metadata": {**node.metadata, _RETRIEVAL_SCORE: given.score}, **hidden})

    @contextlib.contextmanager
    def _reported(self, nodes: list[NodeWithScore], query: QueryBundle | None) -> Iterator["_Report"]:
        """Tells the framework's two event systems: one start and, whatever happens, one end."""
        if query is None:
            msg = f"{type(self).__name__} needs the query to rank nodes by; none was given."
            raise ConfigurationError(msg, hint="Pass query_str= or query_bundle= to postprocess_nodes().")
        name = self._model_name()
        top_n = len(nodes) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=name))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: name,
            EventPayload.QUERY_STR: query.query_str,
            EventPayload.TOP_K: top_n,
        }
        report = _Report(query.query_str)
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            try:
                yield report
            except BaseException as error:
                dispatcher.event(ExceptionEvent(exception=error))
                raise
            event.on_end(payload={EventPayload.NODES: report.nodes})
        dispatcher.event(ReRankEndEvent(nodes=report.nodes))

    def _model_name(self) -> str:
        client = self._cell.client
        return self.model or (client.runtime.model if client is not None else None) or "unknown"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._reported(nodes, query_bundle) as report:
            if nodes:
                report.nodes = self._ranked(
                    nodes, self.client.run(self._flow(report.query, nodes), about=self._about(report.query, nodes))
                )
        return report.nodes

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._reported(nodes, query_bundle) as report:
            if nodes:
                about = self._about(report.query, nodes)
                ranking = await self.client.arun(self._flow(report.query, nodes), about=about)
                report.nodes = self._ranked(nodes, ranking)
        return report.nodes


class _Report:
    __slots__ = ("nodes", "query")

    def __init__(self, query: str) -> None:
        self.query = query
        self.nodes: list[NodeWithScore] = []


class VLLMRerank(KServeRerank):
    """A reranker served by vLLM: a cross-encoder, or an embedding model that ranks by cosine.

    Example:
        ```python
        rerank = VLLMRerank(base_url="https://bge-reranker.apps.example.com/v1", api_key=token, top_n=3)
        engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```

    A cross-encoder's scores lie between 0 and 1; `extra_body={"use_activation": False}` gives its raw ones.
    """

    _runtime_name: ClassVar[str] = "vLLM"

    def _make_runtime(self, endpoint: Endpoint) -> VLLMRuntime:
        return VLLMRuntime(base_path=endpoint.base_path, model=self.model)


class CaikitRerank(CaikitConnection, KServeRerank):
    """A reranker served by Caikit: an embedding model that ranks by cosine, or a cross-encoder.

    Example:
        ```python
        rerank = CaikitRerank(base_url="https://minilm.apps.example.com", model="minilm", top_n=3)
        engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```

    Only the nodes' texts are sent, and only scores come back. Their range is the model's own.
    """


class TensorRerank(TensorConnection, KServeRerank):
    """Orders nodes by a cross-encoder that takes and gives tensors; use the class of your runtime."""

    query_input_name: str | None = Field(default=None, description="The model's input that takes the query.")
    max_length: int | None = Field(
        default=None,
        description="Tokens a query and node together may have at most; longer ones fail unless `truncate` is set.",
    )
    sigmoid: bool | None = Field(
        default=None, description="Put scores between 0 and 1; left out, they stay as the model made them."
    )

    _options: ClassVar[tuple[str, ...]] = (*TensorConnection._options, "query_input_name", "max_length", "sigmoid")
    _runtime_fields: ClassVar[tuple[str, ...]] = _options


class TritonRerank(TensorRerank):
    """A cross-encoder served by Triton.

    Example:
        ```python
        rerank = TritonRerank(
            base_url="https://bge-reranker.apps.example.com",
            model="bge-reranker",
            tokenizer="models/bge-reranker/tokenizer.json",
            sigmoid=True,
            top_n=3,
        )
        engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```

    It takes the query and the texts as text, or both together as token ids, made by `tokenizer`. Of two outputs for a
    pair the score is the second minus the first.
    """

    _runtime_name: ClassVar[str] = "Triton"
    _runtime_key: ClassVar[str] = "triton"


class MLServerRerank(TensorRerank):
    """A cross-encoder served by MLServer, or by a server made with KServe's SDK (`server="kserve"`).

    Example:
        ```python
        rerank = MLServerRerank(base_url="https://bge-reranker.apps.example.com", model="bge-reranker", top_n=3)
        engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```
    """

    server: Literal["mlserver", "kserve"] = Field(default="mlserver", exclude=True, description=SERVER)

    _runtime_name: ClassVar[str] = "MLServer"
    _runtime_key: ClassVar[str] = "mlserver"
    _runtime_fields: ClassVar[tuple[str, ...]] = (*TensorRerank._options, "server")


class OpenVINORerank(TensorRerank):
    """A reranker served by OpenVINO Model Server, in a graph (`/v3`, `--task rerank`) or as tensors (`/v2`, gRPC).

    Example:
        ```python
        rerank = OpenVINORerank(base_url="https://bge-reranker.apps.example.com/v3", model="bge-reranker", top_n=3)
        engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
        ```

    A graph takes at most 100 texts at once, so more are sent in several requests.
    """

    api: Literal["v3", "v2"] | None = Field(default=None, exclude=True, description=API)

    _runtime_name: ClassVar[str] = "OpenVINO"
    _runtime_key: ClassVar[str] = "openvino"
    _runtime_fields: ClassVar[tuple[str, ...]] = (*TensorRerank._options, "api")
