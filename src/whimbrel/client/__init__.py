"""The SDK: one way to the API server for the command line and for Python programs."""
