"""Routes for steering a server that runs in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kserve_core.devserver.faults import Fault
from kserve_core.devserver.messages import Reply, Request, json_reply

if TYPE_CHECKING:
    from kserve_core.devserver.server import DevServer


class Control:
    """`/_devserver/faults` and `/_devserver/requests`: read with GET, add with POST, clear with DELETE.

    `/_devserver/counts` has the numbers alone, which clearing leaves as they are.
    """

    def __init__(self, server: DevServer) -> None:
        self._server = server

    def __call__(self, request: Request) -> Reply:
        """Answer one control request."""
        what = request.raw_path.rsplit("/", 1)[-1]
        if what not in {"faults", "requests", "counts"}:
            return json_reply({"detail": "Not Found"}, status=404)
        if request.method == "GET":
            return self._read(what)
        if request.method == "DELETE" and what != "counts":
            if what == "faults":
                self._server.faults.clear()
            else:
                self._server.requests.clear()
            return json_reply({"cleared": what})
        if request.method == "POST" and what == "faults":
            return self._add(request)
        return json_reply({"detail": "Method Not Allowed"}, status=405)

    def _read(self, what: str) -> Reply:
        if what == "faults":
            return json_reply({"faults": [fault.to_json() for fault in self._server.faults]})
        if what == "counts":
            return json_reply(self._counts())
        return json_reply(
            {
                "requests": [record.to_json() for record in self._server.requests],
                "open_connections": self._server.open_connections,
                "max_in_flight": self._server.max_in_flight,
            }
        )

    def _counts(self) -> dict[str, int]:
        log = self._server.requests
        return {
            "opened": log.opened,
            "finished": log.finished,
            "cancelled": log.cancelled,
            "in_flight": self._server.in_flight,
            "max_in_flight": self._server.max_in_flight,
            "open_connections": self._server.open_connections,
        }

    def _add(self, request: Request) -> Reply:
        try:
            given = request.json()
            faults = [Fault.from_json(item) for item in (given if isinstance(given, list) else [given])]
        except (TypeError, ValueError) as error:
            return json_reply({"detail": str(error)}, status=422)
        for fault in faults:
            self._server.faults.add(fault)
        return json_reply({"added": len(faults)}, status=201)
