"""No secret in what is shown or written down of an instance; pickles carry what DESIGN's fourth promise says."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from security.canary import HEADER, PASSWORD, REAL, TOKEN, classes, found_in, make

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.grpc_transport import GrpcTransport
from kserve_core.http_transport import HttpTransport

CLASSES = list(classes())
NAMES = [name for name, _ in CLASSES]


@pytest.mark.parametrize("cls", [cls for _, cls in CLASSES], ids=NAMES)
def test_nothing_shows_a_secret(cls: type[Any]) -> None:
    model = make(cls, **REAL)
    shown = [model, model.model_dump(), model.model_dump(mode="json"), model.model_dump_json(), model.model_copy()]
    shown += [copy.copy(model), model._slot if hasattr(model, "_slot") else "", model.model_fields_set]
    if cls.__module__.startswith("langchain"):
        from langchain_core.load import dumpd, dumps

        if hasattr(model, "lc_secrets") and hasattr(model, "to_json"):
            shown += [dumps(model), dumpd(model), model.to_json()]
        for name in ("_identifying_params", "lc_attributes", "lc_secrets"):
            shown.append(getattr(model, name, ""))
        if hasattr(model, "_get_ls_params"):
            shown += [model._get_ls_params(), model._get_llm_string() if hasattr(model, "_get_llm_string") else ""]
    else:
        shown += [model.to_dict(), model.to_json(), getattr(model, "metadata", "")]
    assert not found_in(*shown)


@pytest.mark.parametrize("cls", [cls for _, cls in CLASSES], ids=NAMES)
def test_a_mistake_in_another_argument_shows_no_secret(cls: type[Any]) -> None:
    for wrong in ({"timeout": "soon"}, {"base_url": f"https://user:{TOKEN}@host"}, {"unknown_argument": 1}):
        with pytest.raises(ValueError) as caught:
            make(cls, **REAL, **wrong)
        assert not found_in(str(caught.value), repr(caught.value))


@pytest.mark.parametrize("cls", [cls for _, cls in CLASSES], ids=NAMES)
def test_a_token_from_elsewhere_is_pickled_as_the_way_to_it(
    cls: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    assert TOKEN.encode() not in pickle.dumps(make(cls, api_key=file))
    monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
    assert TOKEN.encode() not in pickle.dumps(make(cls))
    assert TOKEN.encode() not in pickle.dumps(make(cls, api_key=_token))


@pytest.mark.parametrize("cls", [cls for _, cls in CLASSES], ids=NAMES)
def test_a_token_that_was_given_travels_in_a_pickle(cls: type[Any]) -> None:
    data = pickle.dumps(make(cls, **REAL))
    assert all(secret.encode() in data for secret in (TOKEN, HEADER, PASSWORD))
    assert not found_in(repr(pickle.loads(data)))


def _token() -> str:
    return TOKEN


def test_what_lies_below_the_classes_shows_no_secret() -> None:
    endpoint = Endpoint.create("https://model.example.com", **REAL)
    transports = [HttpTransport(endpoint), GrpcTransport(endpoint)]
    client = RuntimeClient(endpoint, _Runtime())
    shown = [endpoint, endpoint.describe(), endpoint.token, endpoint.trust, *transports, client]
    assert not found_in(*(f"{thing}{thing!r}" for thing in shown))


class _Runtime:
    name = "vLLM"
    model = None
    base_path = ""
