"""An OpenAI-compatible gateway to Zhipu's GLM-Image."""

__version__ = "0.1.0"
