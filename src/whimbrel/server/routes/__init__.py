"""The HTTP API, one file per subject. A route checks, writes a row or reads some, and answers; work is done
elsewhere."""
