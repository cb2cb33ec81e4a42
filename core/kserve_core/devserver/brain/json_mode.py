"""A JSON object for a prompt that only names its keys."""

from __future__ import annotations

import re
from typing import Any

from kserve_core.devserver.brain.extract import quoted
from kserve_core.devserver.brain.schema import Filler

_KEYS = re.compile(
    r"(?:keys?|fields?|properties|attributes)\s*(?:named|called|of|:|-)?\s*"
    r"((?:['\"`]?\w+['\"`]?\s*(?:,\s*(?:and\s+)?|and\s+|&\s*)?){1,12})",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"^[A-Za-z_]\w*$")


def object_for(prompt: str) -> dict[str, Any]:
    """An object with the keys the prompt names; one called `answer` when it names none."""
    keys = [text for text in quoted(prompt) if _IDENTIFIER.match(text)]
    if not keys:
        found = _KEYS.search(prompt)
        if found:
            keys = [word for word in re.findall(r"\w+", found[1]) if word not in {"and", "in", "the"}]
    keys = list(dict.fromkeys(keys)) or ["answer"]
    rest = re.sub(r"[\"'`]\w+[\"'`]", " ", prompt)
    filler = Filler(rest)
    return {key: filler.fill({"type": "string"}, key=key) for key in keys}
