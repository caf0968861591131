"""The durable request engine: every mutating call is a row, owned through a fenced lease, done in named steps.

    I1   accepted means stored; the same key with the same content is the same request, with another one a conflict
    I2   one writer: every write proves its fence in its own transaction, or writes nothing, not even an event
    I3   intent before effect: a step and the ledger rows of what it may create are committed before the call
    I4   terminal is final
    I5   leases end: they are renewed only while the step that holds them is within its deadline
    I6   any server repairs: requests with an ended lease go back to the queue, without a leader
    I7   a deploy is not a failure: a server that leaves hands its requests back, counters untouched
    I8   poison is isolated: a request that has cost five servers fails
    I9   no network call inside a transaction: a transaction is a plain function in the writer thread
    I10  gone means seen gone; forgotten only by a named person
    I11  order per subject: one at a time, as they were accepted
    I12  progress survives: events are numbered without a gap, and can be followed from any number
    I13  old and new code together: a server claims only kinds that it knows; steps have names

Where to read: `engine` (the loops), `run` (what an operation gets), `outcome` (how it ends), `watching` (followers);
the statements are in `whimbrel.store.queue`. Each invariant has its tests in `tests/whimbrel/requests`.
"""
