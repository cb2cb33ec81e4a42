"""Whatever a server answers, a class gives a result or raises one of its errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from fuzz.replay import Recording, replaying, spoilt, spoilt_bytes
from fuzz.settings import few
from fuzz.uses import NAMES, use
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.errors import KServeError


def spoil(recorded: Recording, rng: random.Random) -> Recording:
    """Has something wrong in the last answer, and now and then in one before."""
    http, grpc = list(recorded.http), [list(messages) for messages in recorded.grpc]
    if http:
        at = len(http) - 1 if rng.random() < 0.8 else rng.randrange(len(http))
        http[at] = (http[at][0], spoilt(http[at][1], rng))
    if grpc:
        at = len(grpc) - 1 if rng.random() < 0.8 else rng.randrange(len(grpc))
        messages = grpc[at]
        if messages and rng.random() < 0.8:
            which = rng.randrange(len(messages))
            messages[which] = spoilt_bytes(messages[which], rng)
        elif messages:
            del messages[rng.randrange(len(messages)) :]
    return replace(recorded, http=http, grpc=grpc)


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_they_were_are_read(name: str) -> None:
    run, recorded = use(name)
    with replaying(Recording(list(recorded.http), [list(each) for each in recorded.grpc])):
        assert run() is not None


@pytest.mark.parametrize("name", NAMES)
def test_spoilt_answers_give_a_result_or_a_typed_error(name: str) -> None:
    run, recorded = use(name)

    @few(40)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        with replaying(spoil(recorded, random.Random(seed))):
            error = _error_of(run)
        assert error is None or 0 < len(str(error)) < 5000

    check()


def _error_of(run: Callable[[], object]) -> KServeError | None:
    try:
        run()
    except KServeError as error:
        return error
    return None
