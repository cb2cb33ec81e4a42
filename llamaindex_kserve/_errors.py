"""The one error the LlamaIndex classes add to the shared tree."""

from kserve_core.errors import BadResponseError


class InvalidOutputError(BadResponseError, ValueError):
    """The model answered, but not in the form asked for: cut-off JSON, a tool call whose arguments do not parse.

    It is also a `ValueError`, which is what the framework's own structured output raises.
    `partial_text` holds what the model wrote.
    """
