"""Bodies in protobuf: what kubectl 1.32 and other Go clients send when they create built-in kinds.

Only requests are read: every such client takes answers in JSON. A body is `k8s\\0` and an envelope with the type and
the message; the message becomes the same document that its JSON would be, and goes the same way from there. Field
numbers come from a data file (scripts/build_protobuf.py); fields that are younger than the file are left out, as
protobuf prescribes for fields that a reader does not know.
"""

from kubesim.apiserver.protobuf.decoding import decode_body

__all__ = ["decode_body"]
