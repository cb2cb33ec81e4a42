"""A callback handler of the older kind that keeps what it is told."""

from __future__ import annotations

from llama_index.core.callbacks.base_handler import BaseCallbackHandler


class Handler(BaseCallbackHandler):
    def __init__(self) -> None:
        super().__init__([], [])
        self.seen = []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.seen.append(("start", event_type, payload))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.seen.append(("end", event_type, payload))

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass
