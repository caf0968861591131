"""kubewire: a small Kubernetes client in which nothing waits without a bound.

    from kubewire.opening import open_client
    from kubewire.resources import PODS

    async with open_client("my-context") as client:
        for pod in (await client.list(PODS, "default")).items:
            ...

Requests, pages, watches and the frames of exec are pure (`requests`, `paging`, `watch`, `exec`, `portforward`);
`transport` is the port behind which the HTTP driver (`http`) and others stand; `kubeconfig` and `credentials` find
out where and as whom; `client` puts them together. `testing` has API servers that are broken on purpose.

Nothing is imported here: whoever needs only errors or resources does not pay for HTTP.
"""
