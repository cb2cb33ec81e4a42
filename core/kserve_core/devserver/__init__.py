"""An offline development server that speaks the runtimes' wires.

It is for your own tests, for examples and for the first five minutes without a cluster: it needs no weights, no
GPU and no network, answers by simple rules (so that a question about a given text gets the right sentence, a
tool gets sensible arguments and similar texts get near vectors), and can be told to misbehave in every way an
endpoint, a router or a proxy does.

    python -m kserve_core.devserver --port 8080

    from kserve_core.devserver import DevServer

    with DevServer(api_key="secret") as server:
        server.fault(status=503, body="router-page", times=2)
        ...  # point a client at server.url
        assert len(server.requests) == 3

It never stands in for a real server: answers mean nothing, there is no model behind them, and what works here
still has to be tried against the runtime you deploy. Nothing else in the package imports it.

Faults can also be asked for per request with the header `x-devserver-fault: {"status": 503}` or, from another
process, with `POST /_devserver/faults`; `GET /_devserver/requests` shows what arrived.
"""

from __future__ import annotations

from kserve_core.devserver.faults import Fault, FaultPlan
from kserve_core.devserver.log import RequestLog, RequestRecord
from kserve_core.devserver.server import DevServer
from kserve_core.devserver.settings import Model

__all__ = ["DevServer", "Fault", "FaultPlan", "Model", "RequestLog", "RequestRecord"]
