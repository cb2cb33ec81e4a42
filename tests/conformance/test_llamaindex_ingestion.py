"""Ingestion pipelines over every LlamaIndex embedding class: workers, async, the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_index.core
import matrix
import pytest
from conformance.counting import work
from conformance.own_server import over_grpc, own_server
from llama_index.core import Document
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import TokenTextSplitter
from targets import real_targets

import llamaindex_kserve

if TYPE_CHECKING:
    from targets import Target

pytestmark = pytest.mark.needs("embedding")

ALONE = {"vllm", "caikit-grpc", "triton-grpc", "mlserver", "openvino"}
"""Runtimes whose classes are sent to worker processes offline; over real servers all are."""

PROGRAM = """
import json, sys
from pathlib import Path

import llamaindex_kserve
from llama_index.core import Document
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import TokenTextSplitter


def main():
    name, kwargs, split = json.loads(sys.argv[1])
    if "token_file" in kwargs:
        kwargs["api_key"] = Path(kwargs.pop("token_file"))
    steps = [TokenTextSplitter(chunk_size=32, chunk_overlap=0)] if split else []
    pipeline = IngestionPipeline(transformations=[*steps, getattr(llamaindex_kserve, name)(**kwargs)])
    documents = [Document(text=f"document {number} " + "some words " * 30) for number in range(8)]
    nodes = pipeline.run(documents=documents, num_workers=2)
    print(json.dumps([len(node.embedding) for node in nodes]))


if __name__ == "__main__":
    main()
"""


def class_name(target: Target) -> str:
    return matrix.entry(target.runtime).llamaindex["embedding"]


def make(target: Target, **kwargs: Any) -> BaseEmbedding:
    return getattr(llamaindex_kserve, class_name(target))(**{**target.embedding, **kwargs})


def documents(count: int) -> list[Document]:
    return [Document(text=f"Document {number} tells about topic {number % 7}.") for number in range(count)]


def run_with_workers(tmp_path: Path, name: str, kwargs: dict[str, Any], *, split: bool) -> list[int]:
    """Runs a pipeline with two worker processes in a program of its own, which can be ended if it hangs."""
    program = tmp_path / "ingest.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if split:
        # Workers load the splitter's vocabulary anew; without this they look for it on the Internet.
        bundled = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
        environment["TIKTOKEN_CACHE_DIR"] = str(bundled)
    done = subprocess.run(
        [sys.executable, str(program), json.dumps([name, kwargs, split])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


class TestWorkers:
    @pytest.mark.skipif(
        real_targets() is None, reason="the next test does the same, and more, over the development server"
    )
    def test_a_pipeline_without_a_splitter(self, target, tmp_path):
        lengths = run_with_workers(tmp_path, class_name(target), target.embedding, split=False)
        assert len(lengths) == 8
        assert len(set(lengths)) == 1

    @pytest.mark.needs("devserver")
    def test_workers_keep_the_ca_the_headers_and_the_token_file(self, target, tmp_path):
        if target.runtime not in ALONE:
            pytest.skip("three interpreters each: one class of each runtime is taken apart and put together there")
        token = tmp_path / "token"
        token.write_text("token-from-a-file")
        model = target.embedding["model"]
        with own_server(target, models=(model,), api_key="token-from-a-file", tls=True) as (server, url):
            kwargs = {
                "base_url": url,
                "model": model,
                "token_file": str(token),
                "ca_cert": str(server.ca_cert),
                "default_headers": {"x-tenant": "blue"},
            }
            lengths = run_with_workers(tmp_path, class_name(target), kwargs, split=True)
            requests = list(server.requests)
        assert len(lengths) > 8
        assert requests
        assert {record.status for record in requests} == {0 if over_grpc(target) else 200}
        assert {record.headers["x-tenant"] for record in requests} == {"blue"}
        assert {record.headers["authorization"] for record in requests} == {"Bearer token-from-a-file"}


class TestOneProcess:
    async def test_blocking_and_async_pipelines_agree(self, target):
        blocking = IngestionPipeline(transformations=[make(target)]).run(documents=documents(20))
        unblocking = await IngestionPipeline(transformations=[make(target)]).arun(documents=documents(20))
        assert [node.text for node in blocking] == [node.text for node in unblocking]
        assert {len(node.embedding) for node in (*blocking, *unblocking)} == {len(blocking[0].embedding)}

    async def test_a_splitter_works_in_one_process(self, target):
        pipeline = IngestionPipeline(transformations=[TokenTextSplitter(chunk_size=24, chunk_overlap=0), make(target)])
        nodes = await pipeline.arun(documents=[Document(text="many words " * 200)])
        assert len(nodes) > 10
        assert all(node.embedding for node in nodes)

    def test_a_second_run_is_answered_by_the_cache_whatever_the_token(self, target):
        pipeline = IngestionPipeline(transformations=[make(target)])
        first = pipeline.run(documents=documents(5))
        unusable = make(target, api_key="a-token-nobody-accepts", timeout=5, base_url="http://127.0.0.1:9")
        again = IngestionPipeline(transformations=[unusable], cache=pipeline.cache).run(documents=documents(5))
        assert [node.embedding for node in again] == [node.embedding for node in first]

    @pytest.mark.needs("devserver")
    async def test_async_pipelines_keep_within_the_bound(self, target):
        target.devserver.fault(delay=0.02, times=200)
        pipeline = IngestionPipeline(
            transformations=[make(target, embed_batch_size=10, request_batch_size=10, max_concurrency=6)]
        )
        assert len(await pipeline.arun(documents=documents(500))) == 500
        assert len(work(target.devserver.requests)) == 50
        assert 2 <= target.devserver.max_in_flight <= 6
