from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.extractors import SummaryExtractor
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from pydantic import SecretStr
from unit.llamaindex.llm_fakes import BASE_URL, TOKEN, make

from llamaindex_kserve import VLLM, ConfigurationError, UnsupportedParameterError

SECRETS = {
    "api_key": TOKEN,
    "default_headers": {"x-tenant-secret": "hunter2-hunter2"},
    "client_cert": ("/secret/client.pem", "/secret/client.key", "opensesame-opensesame"),
}
CANARIES = (TOKEN, "hunter2-hunter2", "opensesame-opensesame", "/secret/client.key")


def token_from_vault() -> str:
    return TOKEN


def plain_prompt(messages):
    return "\n".join(message.content for message in messages)


def same(one, other):
    """Whether two LLMs have the same settings; callback managers are equal to nothing but themselves."""
    return {**one.__dict__, "callback_manager": None} == {**other.__dict__, "callback_manager": None}


class TestConstruction:
    def test_no_connection_is_made_and_nothing_is_read(self):
        llm = VLLM(
            base_url="https://nobody.invalid/v1",
            api_key=Path("/no/such/token"),
            ca_cert="/no/such/ca.pem",
            client_cert="/no/such/client.pem",
        )
        assert llm.metadata.model_name == "unknown"

    def test_the_url_may_come_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("KSERVE_BASE_URL", BASE_URL)
        assert VLLM().base_url == BASE_URL

    def test_without_a_url_it_says_which_variable_would_do(self, monkeypatch):
        monkeypatch.delenv("KSERVE_BASE_URL", raising=False)
        with pytest.raises(ConfigurationError, match="KSERVE_BASE_URL"):
            VLLM()

    def test_the_name_other_llamaindex_classes_use_is_understood(self):
        assert VLLM(api_base=BASE_URL).base_url == BASE_URL

    def test_a_misspelled_argument_is_an_error_that_names_the_right_one(self):
        with pytest.raises(ConfigurationError, match="temperature") as caught:
            VLLM(base_url=BASE_URL, temprature=0.1, api_key=TOKEN)
        assert TOKEN not in str(caught.value)

    def test_other_vendors_variables_are_not_read(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-somebody-elses")
        monkeypatch.setenv("OPENAI_API_BASE", "https://api.openai.com/v1")
        llm = VLLM(base_url=BASE_URL)
        assert llm.api_key is None
        assert llm.base_url == BASE_URL

    def test_a_protocol_the_runtime_does_not_speak_is_refused(self):
        with pytest.raises(UnsupportedParameterError, match="vLLM is not reached over grpc"):
            VLLM(base_url=BASE_URL, protocol="grpc")
        with pytest.raises(UnsupportedParameterError, match="grpc"):
            VLLM(base_url="grpcs://models.example.com")

    @pytest.mark.parametrize("bad", [{"max_retries": "many"}, {"temperature": "hot"}, {"base_url": 7}])
    def test_an_error_never_shows_the_other_arguments(self, bad):
        with pytest.raises(ValueError) as caught:
            VLLM(**{"base_url": BASE_URL, **SECRETS, **bad})
        shown = repr(caught.value) + str(caught.value)
        assert not [canary for canary in CANARIES if canary in shown]

    def test_headers_in_additional_kwargs_are_kept_out_of_dumps(self):
        llm = VLLM(base_url=BASE_URL, additional_kwargs={"extra_headers": {"x-key": TOKEN}, "priority": 1})
        assert TOKEN not in llm.to_json() + repr(llm)
        assert llm.endpoint.default_headers == {"x-key": TOKEN}
        assert llm.additional_kwargs == {"priority": 1}


class TestSecrets:
    @pytest.fixture
    def llm(self):
        return VLLM(base_url=BASE_URL, model="granite", **SECRETS)

    @pytest.mark.parametrize(
        "show",
        [
            repr,
            str,
            lambda llm: str(llm.to_dict()),
            lambda llm: llm.to_json(),
            lambda llm: str(llm.model_dump()),
            lambda llm: llm.model_dump_json(),
            lambda llm: str(llm.to_payload()),
            lambda llm: repr(llm.client),
            lambda llm: repr(llm.endpoint),
            lambda llm: str(llm.__dict__["api_key"]),
        ],
    )
    def test_nothing_shows_a_secret(self, llm, show):
        shown = show(llm)
        assert not [canary for canary in CANARIES if canary in shown]

    def test_a_key_assigned_later_is_hidden_too_and_used(self, llm):
        llm.api_key = "sha256~rotated-by-hand"
        assert "rotated" not in repr(llm.__dict__)
        assert isinstance(llm.api_key, SecretStr)

    def test_the_payload_names_model_and_temperature_and_no_address(self):
        payload = VLLM(base_url=BASE_URL, model="granite", temperature=0.5, api_key=TOKEN).to_payload()
        assert payload["class_name"] == "KServe_VLLM"
        assert payload["model"] == payload["model_name"] == "granite"
        assert payload["temperature"] == 0.5
        assert "example.com" not in str(payload)

    def test_rotating_a_token_or_moving_the_endpoint_keeps_the_ingestion_cache(self):
        def hash_of(**fields):
            llm = VLLM(**{"base_url": BASE_URL, "model": "granite", **fields})
            return get_transformation_hash([TextNode(text="x", id_="1")], SummaryExtractor(llm=llm))

        first = hash_of(api_key="one")
        assert hash_of(api_key="two", timeout=5, base_url="https://other.example.com/v1") == first
        assert hash_of(model="other") != first


class TestCopies:
    @pytest.mark.parametrize("copied", [lambda llm: pickle.loads(pickle.dumps(llm)), copy.deepcopy, copy.copy])
    def test_a_copy_has_everything(self, copied):
        llm = VLLM(
            base_url=BASE_URL,
            model="granite",
            temperature=0.25,
            timeout=7,
            messages_to_prompt=plain_prompt,
            ca_cert="/etc/pki/ca.pem",
            **SECRETS,
        )
        twin = copied(llm)
        assert same(twin, llm)
        assert twin.api_key.get_secret_value() == TOKEN
        assert twin.default_headers == SECRETS["default_headers"]
        assert twin.client_cert == SECRETS["client_cert"]
        assert twin.ca_cert == "/etc/pki/ca.pem"
        assert twin.messages_to_prompt is plain_prompt
        assert twin.endpoint == llm.endpoint

    def test_references_travel_and_what_they_refer_to_does_not(self):
        by_file = VLLM(base_url=BASE_URL, api_key=Path("/var/run/secrets/token"))
        assert pickle.loads(pickle.dumps(by_file)).api_key == Path("/var/run/secrets/token")
        pickled = pickle.dumps(VLLM(base_url=BASE_URL, api_key=token_from_vault))
        assert TOKEN.encode() not in pickled
        assert pickle.loads(pickled).api_key is token_from_vault

    def test_a_token_from_the_environment_does_not_travel(self, monkeypatch):
        monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
        llm = VLLM(base_url=BASE_URL)
        assert llm.endpoint is not None
        assert TOKEN.encode() not in pickle.dumps(llm)

    @pytest.mark.parametrize("field", ["api_key", "messages_to_prompt"])
    def test_what_cannot_travel_is_an_error_rather_than_dropped(self, field):
        llm = VLLM(base_url=BASE_URL, **{field: lambda *_: TOKEN})
        with pytest.raises(TypeError, match=field):
            pickle.dumps(llm)

    def test_handlers_of_this_process_stay_behind(self):
        class Handler(BaseCallbackHandler):
            def __init__(self):
                super().__init__([], [])
                self.lock = threading.Lock()

            def on_event_start(self, *args, **kwargs): ...
            def on_event_end(self, *args, **kwargs): ...
            def start_trace(self, *args, **kwargs): ...
            def end_trace(self, *args, **kwargs): ...

        llm = VLLM(base_url=BASE_URL, callback_manager=CallbackManager([Handler()]))
        twin = pickle.loads(pickle.dumps(llm))
        assert twin.callback_manager.handlers == []

    def test_copies_share_one_rate_limit(self):
        limiter = TokenBucketRateLimiter(requests_per_minute=60)
        llm = VLLM(base_url=BASE_URL, rate_limiter=limiter)
        assert copy.deepcopy(llm).rate_limiter is limiter

    def test_a_copy_that_points_elsewhere_goes_elsewhere(self):
        llm = VLLM(base_url=BASE_URL, api_key=TOKEN, model="granite")
        first = llm.client
        assert llm.model_copy(update={"temperature": 0.5}).client is first
        moved = llm.model_copy(update={"base_url": "https://other.example.com/v1", "api_key": "rotated-by-hand"})
        assert moved.client.endpoint.base_url == "https://other.example.com/v1"
        assert "rotated" not in str(moved.__dict__)
        assert llm.client is first

    def test_a_used_object_pickles_without_its_connections(self):
        llm, _ = make("hello", api_key=TOKEN)
        llm.chat([ChatMessage("hi")])
        twin = pickle.loads(pickle.dumps(llm))
        assert same(twin, llm)
        assert twin._cell.client is None

    def test_unpickling_reads_no_file_and_raises_no_oserror(self):
        # multiprocessing takes an OSError here for "no more work" and waits for ever.
        llm = VLLM(base_url=BASE_URL, ca_cert="/no/such/ca.pem", api_key=Path("/no/such/token"))
        assert pickle.loads(pickle.dumps(llm)).ca_cert == "/no/such/ca.pem"

    def test_a_dump_comes_back_with_its_credentials_given_again(self):
        llm = VLLM(base_url=BASE_URL, api_key=TOKEN, model="granite", temperature=0.25, min_p=0.1)
        twin = VLLM.from_dict(llm.to_dict(), base_url=BASE_URL, api_key=TOKEN)
        assert same(twin, llm)
        assert VLLM.from_json(llm.to_json(), base_url=BASE_URL, api_key=TOKEN).temperature == 0.25

    def test_or_from_the_environment(self, monkeypatch):
        dumped = VLLM(base_url=BASE_URL, api_key=TOKEN, model="granite").to_dict()
        monkeypatch.setenv("KSERVE_BASE_URL", BASE_URL)
        monkeypatch.setenv("KSERVE_API_KEY", TOKEN)
        assert VLLM.from_dict(dumped).endpoint == VLLM(base_url=BASE_URL, model="granite").endpoint


class TestClient:
    def test_there_is_one_however_many_threads_ask(self):
        llm = VLLM(base_url=BASE_URL)
        barrier, clients = threading.Barrier(8), []

        def ask():
            barrier.wait()
            clients.append(llm.client)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(client) for client in clients}) == 1

    def test_changing_where_it_points_makes_a_new_one(self):
        llm = VLLM(base_url=BASE_URL, model="granite")
        first = llm.client
        llm.temperature = 0.3
        assert llm.client is first
        llm.base_url = "https://other.example.com/v1"
        assert llm.client is not first
        assert llm.endpoint.base_url == "https://other.example.com/v1"
