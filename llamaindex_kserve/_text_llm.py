"""The base class of runtimes that only complete text: prompts as they are, or conversations by a chat template."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr
from typing_extensions import Self

from kserve_core.errors import ConfigurationError
from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._templates import ChatTemplateField


class KServeTextLLM(KServeLLM):
    """Completes text with any runtime; use the class of your runtime.

    With a `chat_template` it is a chat model: conversations are written as the template says, and the template's
    end-of-turn text ends an answer. Without one a conversation becomes a prompt by `messages_to_prompt`.
    """

    chat_template: ChatTemplateField = Field(
        default=None,
        description=(
            "How a conversation is written as a prompt: a built-in format (`chatml`, `llama3`, `mistral`, `granite`, "
            "`phi3`, `gemma`, `zephyr`, ...), Jinja text, or the path of a Jinja file or a `tokenizer_config.json`."
        ),
    )
    is_chat_model: bool = Field(
        default=False, description="Send conversations; True where a `chat_template` is given. It needs one."
    )

    _loaded: tuple[Any, Any] | None = PrivateAttr(default=None)
    _needs_model: ClassVar[bool] = True

    def __init__(self, *args: Any, **data: Any) -> None:
        templated = data.get("chat_template") is not None
        data.setdefault("is_chat_model", templated)
        super().__init__(*args, **data)
        if self.is_chat_model and not templated:
            raise self._without_template()
        self._load_template(self.chat_template)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "chat_template":
            self.is_chat_model = value is not None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced; it shares this object's connections unless they are for elsewhere."""
        if update and "chat_template" in update:
            update = {"is_chat_model": update["chat_template"] is not None, **update}
        return super().model_copy(update=update, deep=deep)

    def _load_template(self, source: Any) -> Any:
        """The template a value stands for; None if it stands for none."""
        if source is None:
            return None
        loaded = self._loaded
        if loaded is None or loaded[0] != source:
            from kserve_core.chat_template import ChatTemplate

            loaded = self._loaded = (source, ChatTemplate.load(source))
        return loaded[1]

    def _without_template(self) -> ConfigurationError:
        msg = f"{self._runtime_name} completes text: without a chat template it takes no conversations."
        hint = "Give chat_template=..., the format the model was trained on, or leave is_chat_model out."
        return ConfigurationError(msg, hint=hint)

    def _chat_runtime(self, params: dict[str, Any]) -> Any:
        from kserve_core.templated import TemplatedChat

        self._limit_length(params)
        template = self._load_template(params.pop("chat_template", self.chat_template))
        if template is None:
            raise self._without_template()
        return TemplatedChat(self.client.runtime, template)

    def _is_addressed(self, model: str | None) -> bool:
        return model is not None or not self._needs_model
