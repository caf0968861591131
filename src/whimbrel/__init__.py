"""Run AI and batch jobs on Kubernetes, SSH machines and clouds; `import whimbrel as whim`."""

__version__ = "0.1.0"
