"""One module or package per wire."""
