"""Tool calls in a stream, whatever a server makes of them.

Servers send a call's id on every piece, on the first one only, as an empty string or never; some leave out the
index or send null, repeat the name, send several calls in one piece, a whole call at once, or arguments as an
object. `ToolCallAssembler` hands on pieces of one form, see `ToolCallDelta`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kserve_core._json import word
from kserve_core.runtimes.vllm.chat import arguments_text, is_json, new_call_id
from kserve_core.types import ToolCallDelta


@dataclass(slots=True)
class _Open:
    """A call being received.

    `id` is what the server calls it. Until `announced`, the pieces are held back: a call is announced when its
    name has come.
    """

    index: int
    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list)
    announced: bool = False

    @property
    def arguments(self) -> str:
        return "".join(self.parts)


class ToolCallAssembler:
    """Sorts the tool-call pieces of one choice.

    Args:
        one_call: Hand on the first call only.
    """

    __slots__ = ("_by_index", "_calls", "_one_call")

    def __init__(self, *, one_call: bool = False) -> None:
        self._calls: list[_Open] = []
        self._by_index: dict[int, _Open] = {}
        self._one_call = one_call

    def feed(self, pieces: Any) -> list[ToolCallDelta]:
        """Takes the `tool_calls` list of one event."""
        deltas: list[ToolCallDelta] = []
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict):
                continue
            function = piece.get("function")
            function = function if isinstance(function, dict) else {}
            name = word(function.get("name")) or ""
            text = arguments_text(function.get("arguments"))
            call = self._find(piece.get("index"), word(piece.get("id")) or "", name)
            call.name = call.name or name
            if text:
                call.parts.append(text)
            if self._one_call and call.index > 0:
                continue
            if call.announced:
                if text:
                    deltas.append(ToolCallDelta(call.index, arguments=text))
            elif call.name:
                deltas.append(self._announce(call))
        return deltas

    def finish(self, *, cut: bool) -> list[ToolCallDelta]:
        """What is still owed when the choice ends.

        A call without arguments gets `{}`, unless the answer was cut off.
        """
        deltas: list[ToolCallDelta] = []
        for call in self._calls[:1] if self._one_call else self._calls:
            empty = not call.parts and not cut
            if empty:
                call.parts.append("{}")
            if not call.announced:
                deltas.append(self._announce(call))
            elif empty:
                deltas.append(ToolCallDelta(call.index, arguments="{}"))
        return deltas

    def _announce(self, call: _Open) -> ToolCallDelta:
        call.announced = True
        return ToolCallDelta(call.index, call.id or new_call_id(), call.name, call.arguments)

    def _find(self, index: Any, id: str, name: str) -> _Open:
        if type(index) is int:
            call = self._by_index.get(index)
            if call is None or self._is_another(call, id, name):
                call = self._open(id)
                self._by_index[index] = call
            return call
        for call in self._calls:
            if id and call.id == id:
                return call
        last = self._calls[-1] if self._calls else None
        if last is None or (id and name and last.id) or self._is_another(last, id, name):
            return self._open(id)
        return last

    @staticmethod
    def _is_another(call: _Open, id: str, name: str) -> bool:
        """Whether a piece that seems to continue `call` begins another one.

        It needs a name to begin one. A new id alone does not do: some servers make one up for every piece. The same
        name again begins another call only if the arguments so far are whole.
        """
        if not name or (id and id == call.id):
            return False
        if not call.name:
            return bool(id and call.id and id != call.id)
        return name != call.name or (bool(call.parts) and is_json(call.arguments))

    def _open(self, id: str) -> _Open:
        call = _Open(index=len(self._calls), id=id)
        self._calls.append(call)
        return call
