"""The `whim` command: what a person types, sees and can do next. Talks only to `whimbrel.client`."""
