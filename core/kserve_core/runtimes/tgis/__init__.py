"""The text generation service of TGIS (`fmaas.GenerationService`)."""

from kserve_core.runtimes.tgis.runtime import TGISRuntime

__all__ = ["TGISRuntime"]
