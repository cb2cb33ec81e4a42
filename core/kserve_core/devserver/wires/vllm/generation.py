"""Turns runs of raw output into tokens, with stops and limits applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kserve_core.devserver import tokens
from kserve_core.devserver.wires.vllm.output import Output, Piece, Segment
from kserve_core.devserver.wires.vllm.sampling import Sampling

_FILLER = tokens.encode(" and so on")


def generate(runs: Iterable[Segment], sampling: Sampling, limit: int) -> Output:
    """The tokens of the runs: up to the end of the turn, a stop, or `limit` tokens."""
    pieces = [piece for run in runs for piece in _pieces(run)]
    count = sum(len(piece.ids) for piece in pieces)
    least = limit if sampling.ignore_eos else min(sampling.min_tokens, limit)
    pieces += [_filler(at) for at in range(least - count)]
    if not sampling.ignore_eos:
        pieces.append(Piece("end", "", -1, [tokens.END]))
    output = _limited(pieces, limit)
    _stop_at_text(output, sampling)
    _stop_at_token(output, sampling)
    return output


def _pieces(run: Segment) -> Iterator[Piece]:
    """The tokens of a run; those of one character stay together."""
    waiting = b""
    ids: list[int] = []
    for number in tokens.encode(run.text, special=False):
        ids.append(number)
        waiting += tokens.piece_of(number)
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            continue
        yield Piece(run.kind, text, run.call, ids)
        waiting, ids = b"", []
    if ids:
        yield Piece(run.kind, waiting.decode("utf-8", "replace"), run.call, ids)


def _filler(at: int) -> Piece:
    number = _FILLER[at % len(_FILLER)]
    return Piece("text", tokens.decode([number]), -1, [number])


def _limited(pieces: list[Piece], limit: int) -> Output:
    kept: list[Piece] = []
    room = limit
    for piece in pieces:
        if len(piece.ids) > room:
            if room:
                kept.append(Piece(piece.kind, "", piece.call, piece.ids[:room]))
            return Output(kept, "length")
        kept.append(piece)
        room -= len(piece.ids)
    ended = bool(pieces) and pieces[-1].kind == "end"
    return Output(kept, "stop" if ended else "length")


def _stop_at_text(output: Output, sampling: Sampling) -> None:
    """Cut the output at the stop text that is complete first."""
    raw = output.raw
    hits = [(raw.find(stop) + len(stop), stop) for stop in sampling.stop if stop in raw]
    if not hits:
        return
    end, stop = min(hits, key=lambda hit: hit[0])
    keep = end if sampling.include_stop else end - len(stop)
    kept: list[Piece] = []
    seen = 0
    for piece in output.pieces:
        if seen >= end:
            break
        text = piece.text[: max(0, keep - seen)]
        seen += len(piece.text)
        if kept and not text and piece.kind == kept[-1].kind:
            kept[-1].ids = [*kept[-1].ids, *piece.ids]
        else:
            kept.append(Piece(piece.kind, text, piece.call, piece.ids))
    output.pieces[:] = kept
    output.finish_reason, output.stop_reason = "stop", stop


def _stop_at_token(output: Output, sampling: Sampling) -> None:
    """Cut the output at the first stop token."""
    if not sampling.stop_token_ids:
        return
    for at, piece in enumerate(output.pieces):
        hit = next((number for number in piece.ids if number in sampling.stop_token_ids), None)
        if hit is not None:
            text = piece.text if sampling.include_stop else ""
            output.pieces[at:] = [Piece(piece.kind, text, piece.call, piece.ids)]
            output.finish_reason, output.stop_reason = "stop", hit
            return
