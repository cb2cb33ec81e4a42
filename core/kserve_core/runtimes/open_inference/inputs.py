"""Which of a model's inputs takes the text, as text or as token ids: told by the user, or else by its metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.dialects import MLSERVER, Dialect
from kserve_core.runtimes.open_inference.layouts import TEXT, Layout, check_fixed, declared, described, text_layout
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec
from kserve_core.tensors import DATATYPES, Tensor

if TYPE_CHECKING:
    from kserve_core.runtimes.open_inference.tokenizing import LocalTokenizer, Tokens

HUGGING_FACE_INPUTS = ("args", "array_inputs")
"""What MLServer's Hugging Face runtime calls the input that takes the texts."""

_TEXT_NAMES = (
    *("text", "texts", "sentence", "sentences", "input", "inputs", "input_text", "text_input", "input_texts"),
    *("query", "queries", "document", "documents", "passage", "passages", "content", "prompt", *HUGGING_FACE_INPUTS),
)
_PAIR_NAMES = (
    (("query", "queries", "question"), ("passage", "document", "doc", "text", "context", "candidate", "answer")),
    (("text", "sentence", "text_a", "text_1", "text1"), ("text_pair", "text_b", "text_2", "text2", "sentence_pair")),
    (("sentence1", "sentence_1", "sentence_a", "source"), ("sentence2", "sentence_2", "sentence_b", "target")),
)
_IDS = ("input_ids", "token_ids", "input_tokens", "input_word_ids", "ids", "tokens")
_MASKS = ("attention_mask", "input_mask", "mask")
_TYPES = ("token_type_ids", "segment_ids", "type_ids", "input_type_ids")
_POSITIONS = ("position_ids",)

_ID_TYPES = frozenset({"INT32", "INT64", "UINT32", "UINT64"})


@dataclass(frozen=True, slots=True)
class TextInput:
    """An input that takes texts as they are.

    Attributes:
        name: Its name.
        layout: How texts lie in it.
    """

    name: str
    layout: Layout

    def tensor(self, texts: Sequence[str]) -> Tensor:
        """The tensor of some texts, padded with copies of the last one where the model takes a fixed number."""
        filled = self.layout.filled(texts)
        return Tensor(self.name, TEXT, self.layout.shape(len(texts)), None, filled)


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """Inputs that take token ids.

    Attributes:
        ids: The input of the ids.
        mask: The one of the attention mask, or None.
        types: The one of the token types, or None.
        positions: The one of the positions, or None.
        rows: How many texts the model takes, no more and no fewer; None for any number.
        length: The length it wants all texts to have; None for any.
        flat: Whether there is no dimension for several texts.
    """

    ids: TensorSpec
    mask: TensorSpec | None = None
    types: TensorSpec | None = None
    positions: TensorSpec | None = None
    rows: int | None = None
    length: int | None = None
    flat: bool = False

    def __post_init__(self) -> None:
        check_fixed(self.rows, self.length)

    def limit(self, tokenizer: LocalTokenizer) -> int | None:
        """Most texts of one request.

        Without a mask the model can tell padding by the pad token alone; where there is none either, texts of different
        lengths do not go together.
        """
        if self.flat or (self.mask is None and self.length is None and tokenizer.pad_id is None):
            return 1
        return self.rows

    def tensors(self, tokens: Tokens) -> list[Tensor]:
        """The tensors of some texts' tokens, padded with copies of the last text where a fixed number is wanted."""
        made = [_numbers(self.ids, self._placed(tokens.ids))]
        if self.mask is not None:
            made.append(_numbers(self.mask, self._placed(tokens.mask)))
        if self.types is not None:
            made.append(_numbers(self.types, self._placed(tokens.types)))
        if self.positions is not None:
            made.append(_numbers(self.positions, self._placed(tokens.positions)))
        return made

    def _placed(self, table: Any) -> Any:
        if self.flat:
            return table[0]
        if self.rows is None or len(table) >= self.rows:
            return table
        import numpy as np

        return np.concatenate([table, np.repeat(table[-1:], self.rows - len(table), axis=0)])


@dataclass(frozen=True, slots=True)
class PairInputs:
    """The two inputs of a query and the texts to compare with it.

    Attributes:
        query: Takes the query.
        documents: Takes the texts.
        repeated: Whether the query is sent once for each text; else once.
    """

    query: TextInput
    documents: TextInput
    repeated: bool

    @property
    def limit(self) -> int | None:
        """Most texts of one request."""
        return self.documents.layout.limit

    def tensors(self, query: str, documents: Sequence[str]) -> list[Tensor]:
        """The tensors of a query and some texts."""
        rows = self.documents.layout.padded(len(documents)) if self.repeated else 1
        return [self.query.tensor([query] * rows), self.documents.tensor(documents)]


@dataclass(frozen=True, slots=True)
class PairColumns:
    """One input that takes rows of two texts each, the query first."""

    name: str
    layout: Layout

    @property
    def limit(self) -> int | None:
        """Most rows of one request."""
        return self.layout.limit

    def tensors(self, query: str, documents: Sequence[str]) -> list[Tensor]:
        """The tensor of a query and some texts."""
        flat = [text for document in self.layout.filled(documents) for text in (query, document)]
        return [Tensor(self.name, TEXT, self.layout.shape(len(documents)), None, flat)]


def text_input(metadata: ModelMetadata, options: TensorOptions, dialect: Dialect) -> TextInput | TokenInputs:
    """The input (or inputs) for single texts.

    Raises:
        ConfigurationError: If the metadata does not tell which it is, or a name is given that the model has not. Of
            MLServer a model without metadata is taken for one of its Hugging Face runtime.
    """
    if options.query_input_name is not None and options.input_name is None:
        msg = "query_input_name is for reranking; the input of single texts is input_name."
        raise ConfigurationError(msg)
    if options.input_name is not None:
        return _named(metadata, options, options.input_name, dialect)
    if not metadata.inputs and dialect == MLSERVER:
        # Its Hugging Face runtime tells no inputs before the first request; other models mostly look at no name.
        return TextInput(HUGGING_FACE_INPUTS[0], text_layout(None, dialect))
    texts = _texts(metadata)
    tokens = token_inputs(metadata, options)
    if tokens is not None and (not texts or options.tokenizer is not None):
        return tokens
    if len(texts) > 1 and _pair(texts) is not None:
        msg = f"The model {metadata.name!r} takes pairs of texts, as rerankers do, and not single ones."
        raise ConfigurationError(msg, hint=_choose(metadata, "input_name"))
    required = [spec for spec in texts if not spec.optional]
    chosen = next((group[0] for group in (texts, required) if len(group) == 1), None) or _by_name(texts, _TEXT_NAMES)
    if chosen is None:
        raise _undecided(metadata, "text", "input_name")
    return TextInput(chosen.name, text_layout(chosen, dialect))


def pair_inputs(
    metadata: ModelMetadata, options: TensorOptions, dialect: Dialect
) -> PairInputs | PairColumns | TokenInputs:
    """The inputs for a query and the texts to compare with it.

    Raises:
        ConfigurationError: If the model takes single texts only, the metadata does not tell which inputs they are, or
            a name is given that the model has not.
    """
    query, documents = options.query_input_name, options.input_name
    if query is not None and query == documents:
        msg = "query_input_name and input_name are the same input."
        raise ConfigurationError(msg, hint="Name one for the query and one for the documents.")
    texts = _texts(metadata)
    tokens = token_inputs(metadata, options)
    if query is None and tokens is not None and (not texts or options.tokenizer is not None):
        return tokens
    if query is None or documents is None:
        found = _other(texts, query, documents)
        if found is None:
            single = next((spec for spec in texts if documents in {None, spec.name}), None)
            if single is not None and len(single.shape) == 2 and single.shape[1] == 2 and query is None:
                first = single.shape[0]
                return PairColumns(single.name, Layout(2, first if first > 0 else None, 2))
            if len(texts) == 1:
                msg = f"The model {metadata.name!r} takes single texts, not a query and documents: it is no reranker."
                hint = "Use it for embeddings. A reranker (cross-encoder) takes both texts of a pair."
                raise ConfigurationError(msg, hint=hint)
            raise _undecided(metadata, "query and documents", "query_input_name and input_name")
        query, documents = found
    return _pair_of(_text_spec(metadata, query), _text_spec(metadata, documents), (query, documents), dialect)


def token_inputs(metadata: ModelMetadata, options: TensorOptions) -> TokenInputs | None:
    """The inputs of token ids; None if there are none.

    A server that tells nothing about the model is believed to want the ids and the mask, if the user names an input
    that is called like one of ids and gives a tokenizer.

    Raises:
        ConfigurationError: If their shapes are none that texts fit into.
    """
    name = options.input_name
    if not metadata.inputs:
        if name is None or options.tokenizer is None or _plain(name) not in _IDS:
            return None
        mask = TensorSpec("attention_mask", "INT64", (-1, -1))
        return TokenInputs(TensorSpec(name, "INT64", (-1, -1)), mask)
    numeric = [spec for spec in metadata.inputs if spec.datatype in DATATYPES and spec.datatype != TEXT]
    if name is not None:
        ids = next((spec for spec in numeric if spec.name == name), None)
    else:
        ids = _by_name([spec for spec in numeric if spec.datatype in _ID_TYPES], _IDS)
    if ids is None:
        return None
    if ids.datatype not in _ID_TYPES:
        msg = f"The input {described(ids)} takes neither text nor token ids."
        raise ConfigurationError(msg, hint=_choose(metadata, "input_name"))
    if len(ids.shape) not in {0, 1, 2}:
        msg = f"Token ids of texts do not fit into the input {described(ids)}."
        raise ConfigurationError(msg, hint="It needs a dimension for texts and one for tokens.")
    shape = ids.shape or (-1, -1)
    others = [spec for spec in numeric if spec is not ids]
    return TokenInputs(
        ids,
        _by_name(others, _MASKS),
        _by_name(others, _TYPES),
        _by_name(others, _POSITIONS),
        rows=None if len(shape) == 1 or shape[0] < 1 else shape[0],
        length=None if shape[-1] < 1 else shape[-1],
        flat=len(shape) == 1,
    )


def _named(metadata: ModelMetadata, options: TensorOptions, name: str, dialect: Dialect) -> TextInput | TokenInputs:
    tokens = token_inputs(metadata, options)
    if tokens is not None:
        return tokens
    return TextInput(name, text_layout(_text_spec(metadata, name), dialect))


def _text_spec(metadata: ModelMetadata, name: str) -> TensorSpec | None:
    """The named input; None where the server tells of none at all."""
    spec = metadata.input(name)
    if name in HUGGING_FACE_INPUTS and any(known.name in HUGGING_FACE_INPUTS for known in metadata.inputs):
        return spec  # that runtime takes either name, and tells of one
    if spec is None and metadata.inputs:
        msg = f"The model {metadata.name!r} has no input {name!r}."
        raise ConfigurationError(msg, hint=f"It has {declared(metadata.inputs)}.")
    if spec is not None and spec.datatype != TEXT:
        msg = f"The input {described(spec)} does not take text."
        raise ConfigurationError(msg, hint=f"The model has {declared(metadata.inputs)}.")
    return spec


def _pair_of(
    query: TensorSpec | None, documents: TensorSpec | None, names: tuple[str, str], dialect: Dialect
) -> PairInputs:
    """The layouts of a query and documents, which may lie below each other or in one row."""
    layout = text_layout(documents, dialect)
    asked = text_layout(query, dialect)
    one = asked.rows == 1 and layout.rows != 1  # one query for several documents
    if documents is not None and len(documents.shape) == 2 and documents.shape[1] == -1:
        single = query is not None and len(query.shape) == 2 and query.shape[1] == 1
        if documents.shape[0] == 1 or single or (query is not None and len(query.shape) == 1 and one):
            layout, one = Layout(2, 1, None), True
            asked = Layout(asked.rank)
    if asked.rows is not None and asked.rows != layout.rows and not one:
        msg = f"The inputs {names[0]!r} and {names[1]!r} take different numbers of texts."
        raise ConfigurationError(msg, hint="A reranker takes one query, or one for each document.")
    return PairInputs(TextInput(names[0], asked), TextInput(names[1], layout), repeated=not one)


def _other(texts: Sequence[TensorSpec], query: str | None, documents: str | None) -> tuple[str, str] | None:
    """The inputs of query and documents, where one or both of them are not given."""
    if query is None and documents is None:
        return _pair(texts)
    rest = [spec.name for spec in texts if spec.name not in {query, documents}]
    if len(rest) != 1 or len(texts) != 2:
        return None
    return (query, rest[0]) if query is not None else (rest[0], documents or "")


def _pair(texts: Sequence[TensorSpec]) -> tuple[str, str] | None:
    for firsts, seconds in _PAIR_NAMES:
        first, second = _by_name(texts, firsts), _by_name(texts, seconds)
        if first is not None and second is not None and first is not second:
            return first.name, second.name
    return None


def _texts(metadata: ModelMetadata) -> list[TensorSpec]:
    return [spec for spec in metadata.inputs if spec.datatype == TEXT]


def _by_name(specs: Sequence[TensorSpec], names: Sequence[str]) -> TensorSpec | None:
    """The input that is called by the first of the names that one is called by."""
    by_name = {_plain(spec.name): spec for spec in reversed(specs)}
    for name in names:
        found = by_name.get(name) or by_name.get(f"{name}s")
        if found is not None:
            return found
    return None


def _plain(name: str) -> str:
    """A name without what exports put around it (`serving_default_input_ids:0`), in lower case."""
    return re.sub(r":\d+$", "", name).lower().removeprefix("serving_default_")


def _undecided(metadata: ModelMetadata, what: str, option: str) -> ConfigurationError:
    if not metadata.inputs:
        return ConfigurationError(
            f"The server does not tell what inputs the model {metadata.name!r} has.",
            hint=f"Name the one for the {what} as {option}.",
        )
    msg = f"It is not clear which input of the model {metadata.name!r} takes the {what}."
    return ConfigurationError(msg, hint=_choose(metadata, option))


def _choose(metadata: ModelMetadata, option: str) -> str:
    return f"Set {option}. The model has the inputs {declared(metadata.inputs)}."


def _numbers(spec: TensorSpec, table: Any) -> Tensor:
    return Tensor.of(spec.name, table.astype("?") if spec.datatype == "BOOL" else table, datatype=spec.datatype)
