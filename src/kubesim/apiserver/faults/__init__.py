"""Faults on request: an API server that hangs, drips, resets, refuses, lies, so that its clients can be proven.

    spec      what a fault is: kind, which requests, how often; as JSON, checked
    kinds     the kinds and their parameters, in one table
    matching  whether a fault is meant by a request
    active    the faults that are set: they count, draw lots, end
    effects   what happens to a request over HTTP
    channels  what happens to a WebSocket
    statuses  the answers of a server, or of a proxy before it, that refuses
    certificates  a TLS context that no client should trust
    presets   stories: faults that come together

All of it acts where requests come in from outside (`asgi`, `door`). Scheduler, controllers and kubelets of the same
process do not come in there, and are spared; so are the commands of kubesim themselves. Faults live in memory: a
daemon that is started anew has none.
"""
