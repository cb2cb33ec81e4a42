"""The models a server has, by name: one is looked up, or an error tells which there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kserve_core.calls import Flow
from kserve_core.errors import ConfigurationError, ModelNotFoundError
from kserve_core.names import did_you_mean, listed
from kserve_core.types import ModelInfo


def no_such_model(
    lead: str, model: str | None, *, hint: str, said: str = "", status: int | None = 404
) -> ModelNotFoundError:
    """The error for a model that is not there.

    Args:
        lead: The sentence up to the model (`The endpoint does not serve`).
        model: The model's name; None if the request named none.
        hint: Which ones there are (`known_models`).
        said: What the server said.
        status: The HTTP status it said it with.
    """
    subject = f"a model named {model!r}" if model else "this model"
    return ModelNotFoundError(f"{lead} {subject}.", hint=hint, layer="model", status=status, server_message=said)


def known_models(lead: str, model: str | None, known: Sequence[str], *, otherwise: str) -> str:
    """Advice that tells the names there are, the one that was probably meant first; `otherwise` if none is known."""
    return f"{did_you_mean(model, known)}{lead} {listed(known)}." if known else otherwise


def several_models(names: Sequence[str], lead: str, has: str) -> ConfigurationError:
    """The error where one of several models had to be chosen: `lead` and `has` begin the message and its hint."""
    msg = f"{lead} {len(names)} models, so `model` has to be given."
    return ConfigurationError(msg, hint=f"{has} {listed(names)}.")


def find_model(
    name: str | None,
    known: Sequence[ModelInfo],
    ask: Callable[[], Flow[list[ModelInfo]]],
    *,
    pick: Callable[[Sequence[ModelInfo]], str],
    missing: Callable[[str, Sequence[str]], ModelNotFoundError],
) -> Flow[ModelInfo]:
    """What is known of one model; the server is asked about one not seen before only.

    Args:
        name: The model; None for the one that requests without a name go to.
        known: What the server told before.
        ask: Asks it for its models.
        pick: The one that is meant where none is named.
        missing: Makes the error for a model that is not among them.

    Raises:
        ModelNotFoundError: If there is no such model.
        ConfigurationError: If none is named and `pick` finds several.
    """
    for info in known:
        if info.id == name:
            return info
    models = yield from ask()
    wanted = name or pick(models)
    for info in models:
        if info.id == wanted:
            return info
    raise missing(wanted, [info.id for info in models])
