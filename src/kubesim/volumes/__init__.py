"""Which volume satisfies which claim: what the volume controllers and the scheduler have to agree on. Pure, no I/O."""
