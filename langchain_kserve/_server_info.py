"""Questions about the server itself, asked by every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_kserve._errors import UnsupportedParameterError, translated

if TYPE_CHECKING:
    from kserve_core.client import RuntimeClient
    from kserve_core.types import ModelInfo


class ServerInfo:
    """What an endpoint serves, which version it is and whether it is ready; nothing is asked unless called."""

    if TYPE_CHECKING:

        def _get_client(self) -> RuntimeClient[Any]: ...
        def _run(self, exchange: Any) -> Any: ...
        async def _arun(self, exchange: Any) -> Any: ...

    def _ask(self, question: str) -> Any:
        runtime = self._get_client().runtime
        ask = getattr(runtime, question, None)
        if ask is None:
            msg = f"{runtime.name} cannot be asked for this ({question})."
            raise UnsupportedParameterError(msg)
        with translated:
            return ask()

    def list_models(self) -> list[ModelInfo]:
        """The models the endpoint serves, LoRA adapters included."""
        models: list[ModelInfo] = self._run(self._ask("models"))
        return models

    async def alist_models(self) -> list[ModelInfo]:
        """The same as `list_models`, without blocking."""
        models: list[ModelInfo] = await self._arun(self._ask("models"))
        return models

    def is_ready(self) -> bool:
        """Whether the server can answer requests now."""
        return bool(self._run(self._ask("health")))

    async def ais_ready(self) -> bool:
        """The same as `is_ready`, without blocking."""
        return bool(await self._arun(self._ask("health")))

    def server_version(self) -> str:
        """The server's version, for example `0.11.0`.

        Raises:
            UnsupportedParameterError: If the runtime does not tell it, as TGIS does not.
        """
        return str(self._run(self._ask("version")))

    async def aserver_version(self) -> str:
        """The same as `server_version`, without blocking."""
        return str(await self._arun(self._ask("version")))
