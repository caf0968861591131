"""The durable request engine: every mutating call is a row, owned through a fenced lease, done in named steps."""
