"""kubesim: a Kubernetes in a pip package."""

__version__ = "0.1.0"
