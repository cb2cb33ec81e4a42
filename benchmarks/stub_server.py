"""A loopback endpoint with canned answers, cheap enough that the client is what gets measured.

The model name in the request picks the answer: `call-100` is one whole answer of 100 tokens, `burst-1000` a stream
of 1,000 tokens in one send, `paced-200` a stream of 200 tokens 1 ms apart, `busy-100` a stream of 100 tokens as fast
as the client takes them, `dim-384` embeddings of 384 values. `inputs` are answered as Caikit
answers embeddings, paths under `/v2` as Triton answers. Prints its HTTP and its gRPC port and serves until killed.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import struct
from functools import cache

import orjson
import stub_grpc
import stub_v2

MODEL = re.compile(rb'"model"\s*:\s*"(call|burst|paced|busy|dim)-(\d+)"')
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream"\s*:\s*true')


def http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    b'"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":5,"total_tokens":105,"completion_tokens":100}}\n\n'
)


@cache
def events(count: int) -> tuple[bytes, ...]:
    """One HTTP chunk per event, as uvicorn sends them."""
    first = EVENT % (b'{"role":"assistant","content":""}', b"null")
    rows = [EVENT % (b'{"content":" word"}', b"null") for _ in range(count)]
    last = EVENT % (b"{}", b'"stop"')
    return (*(chunk(row) for row in (first, *rows, last, USAGE, b"data: [DONE]\n\n")), b"0\r\n\r\n")


@cache
def whole(count: int) -> bytes:
    message = {"role": "assistant", "content": " word" * count}
    return http(
        orjson.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": count + 5},
            }
        )
    )


@cache
def vectors(texts: int, dimension: int) -> bytes:
    rng = random.Random(0)
    rows = []
    for index in range(texts):
        values = [rng.uniform(-1, 1) for _ in range(dimension)]
        packed = base64.b64encode(struct.pack(f"<{dimension}f", *values)).decode()
        rows.append({"index": index, "object": "embedding", "embedding": packed})
    usage = {"prompt_tokens": texts, "total_tokens": texts}
    return http(orjson.dumps({"object": "list", "data": rows, "model": "m", "usage": usage}))


@cache
def caikit_vectors(texts: int) -> bytes:
    row = {"data": {"values": [0.01 * number for number in range(384)]}}
    return http(orjson.dumps({"results": {"vectors": [row] * texts}, "producer_id": None, "input_token_count": texts}))


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(self.buffer, 0, end)
        stop = end + 4 + (int(length[1]) if length else 0)
        if len(self.buffer) < stop:
            return
        head, body, self.buffer = self.buffer[:end], self.buffer[end + 4 : stop], self.buffer[stop:]
        self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if (tensors := stub_v2.answer(head, body)) is not None:
            self.transport.write(tensors)
            return
        match = MODEL.search(body)
        if match is None and b'"inputs"' in body:
            self.transport.write(caikit_vectors(len(orjson.loads(body)["inputs"])))
            return
        if match is None:
            self.transport.write(http(b'{"object":"list","data":[{"id":"call-100","object":"model"}]}'))
            return
        kind, count = match[1], int(match[2])
        if kind == b"dim":
            texts = orjson.loads(body)["input"]
            self.transport.write(vectors(1 if isinstance(texts, str) else len(texts), count))
        elif not STREAM.search(body):
            self.transport.write(whole(count))
        elif kind == b"burst":
            self.transport.write(SSE_HEAD + b"".join(events(count)))
        else:
            self.task = asyncio.ensure_future(self.send(events(count), 0.001 if kind == b"paced" else 0.0))

    async def send(self, pieces: tuple[bytes, ...], pause: float) -> None:
        self.transport.write(SSE_HEAD)
        for piece in pieces:
            await asyncio.sleep(pause)
            await self.writable.wait()
            self.transport.write(piece)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], stub_grpc.start(), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
