"""SPDY/3.1, as far as Kubernetes' clients speak it: inside a WebSocket (KEP-4006), or after a plain HTTP upgrade.

frames.py       bytes to frames and back, header compression: pure
session.py      one connection: streams that read, write, close and reset
forwarding.py   pods/portforward: pairs of streams, each a connection into a pod
processes.py    pods/exec and attach: the streams of one command
"""
