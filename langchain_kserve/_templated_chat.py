"""The chat model behind the chat classes of runtimes that only complete text."""

from pathlib import Path
from typing import Any

from pydantic import SkipValidation
from typing_extensions import override

from kserve_core.chat_template import ChatTemplate
from langchain_kserve._base_chat import RuntimeChat
from langchain_kserve._errors import ConfigurationError, translated


class TemplatedChat(RuntimeChat):
    """Drives conversations with a runtime that only completes text; a subclass names the runtime.

    The conversation is written as one prompt by `chat_template`, and the text that closes the model's turn in it
    becomes a stop sequence. There are no tools and no images.

    Raises:
        ConfigurationError: From the constructor, if there is no chat template, or it cannot be used.
    """

    chat_template: SkipValidation[str | Path | ChatTemplate | None] = None
    """How the model wants conversations written; required.

    The name of a built-in format (`chatml`, `llama3`, `mistral`, `granite`, ...), Jinja text, or the path of a Jinja
    file or of the model's `tokenizer_config.json`. None is ever taken from the server.
    """

    _has_tools = False

    def __init__(self, *args: Any, **data: Any) -> None:
        super().__init__(*args, **data)
        with translated:
            self._template()

    def _template(self) -> ChatTemplate:
        if self.chat_template is None:
            from kserve_core.chat_formats import FORMATS

            msg = f"{type(self).__name__} needs a chat_template: {self._declaration.label} completes text only."
            hint = (
                f"Give the format of the model's family ({', '.join(sorted(FORMATS))}), a Jinja template, or the path "
                "of the model's tokenizer_config.json."
            )
            raise ConfigurationError(msg, hint=hint)
        return ChatTemplate.load(self.chat_template)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**super()._identifying_params, "chat_template": str(self.chat_template)}

    @override
    def _settings(self) -> tuple[Any, ...]:
        return (*super()._settings(), self.chat_template)

    @override
    def _make_chat(self, runtime: Any) -> Any:
        from kserve_core import templated

        return templated.TemplatedChat(runtime, self._template())
