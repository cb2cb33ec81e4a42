"""The rules that stand in for a model: shared by every wire."""
