"""The roles and bindings that every cluster has, as data: what a real cluster has that users, kubelets and programs
rely on. Reconciled at each start (`rbac.bootstrap`); the roles of single controllers are not here, because all
controllers of kubesim are one user.
"""

from __future__ import annotations

from kubesim.apiserver.requests import JsonObject

_GROUP = "rbac.authorization.k8s.io"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_BOTH = "create delete deletecollection get list patch update watch"
_EVENTS = ("create patch update", "core events.k8s.io", "events")

Rule = tuple[str, str, str] | tuple[str, str, str, str]
"""Verbs, groups (`core` is the one without a name), resources, names; separated by spaces."""


def rule(verbs: str, groups: str, resources: str, names: str = "") -> JsonObject:
    """A rule for resources."""
    made: JsonObject = {
        "verbs": verbs.split(),
        "apiGroups": ["" if one == "core" else one for one in groups.split()],
        "resources": resources.split(),
    }
    if names:
        made["resourceNames"] = names.split()
    return made


_ADMIN: list[Rule] = [
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (_BOTH, _GROUP, "rolebindings roles"),
]
_STREAMS = "pods/attach pods/exec pods/portforward pods/proxy"
_EDIT: list[Rule] = [
    (_READ, "core", f"{_STREAMS} secrets services/proxy"),
    ("impersonate", "core", "serviceaccounts"),
    (_WRITE, "core", f"pods {_STREAMS}"),
    ("create", "core", "pods/eviction"),
    (
        _WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
    ),
    ("create", "core", "serviceaccounts/token"),
    (
        _WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
        "statefulsets/scale",
    ),
    (_WRITE, "autoscaling", "horizontalpodautoscalers"),
    (_WRITE, "batch", "cronjobs jobs"),
    (
        _WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets "
        "replicasets/scale replicationcontrollers/scale",
    ),
    (_WRITE, "policy", "poddisruptionbudgets"),
    (_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (_BOTH, "coordination.k8s.io", "leases"),
    (_WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
]
_VIEW: list[Rule] = [
    (
        _READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    (
        _READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
    ),
    (_READ, "core", "namespaces"),
    (_READ, "discovery.k8s.io", "endpointslices"),
    (
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    (_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        _READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    (_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (_READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
]
_NODE: list[Rule] = [
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    (_READ, "core", "services"),
    ("create get list watch", "core", "nodes"),
    ("patch update", "core", "nodes/status"),
    ("patch update", "core", "nodes"),
    _EVENTS,
    (_READ, "core", "pods"),
    ("create delete", "core", "pods"),
    ("patch update", "core", "pods/status"),
    ("create", "core", "pods/eviction"),
    (_READ, "core", "configmaps secrets"),
    ("get", "core", "persistentvolumeclaims persistentvolumes"),
    ("get", "core", "endpoints"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("create delete get patch update", "coordination.k8s.io", "leases"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("create", "core", "serviceaccounts/token"),
    ("get patch update", "core", "persistentvolumeclaims/status"),
    (_READ, "storage.k8s.io", "csidrivers"),
    ("create delete get patch update", "storage.k8s.io", "csinodes"),
    (_READ, "node.k8s.io", "runtimeclasses"),
]
_SCHEDULER: list[Rule] = [
    _EVENTS,
    ("create", "coordination.k8s.io", "leases"),
    ("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
    (_READ, "core", "nodes"),
    ("delete get list watch", "core", "pods"),
    ("create", "core", "bindings pods/binding"),
    ("patch update", "core", "pods/status"),
    (_READ, "core", "replicationcontrollers services"),
    (_READ, "apps extensions", "replicasets"),
    (_READ, "apps", "statefulsets"),
    (_READ, "policy", "poddisruptionbudgets"),
    (_READ, "core", "persistentvolumeclaims persistentvolumes"),
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews"),
    (_READ, "storage.k8s.io", "csinodes"),
    (_READ, "core", "namespaces"),
    (_READ, "storage.k8s.io", "csidrivers"),
    (_READ, "storage.k8s.io", "csistoragecapacities"),
]
_MANAGER: list[Rule] = [
    _EVENTS,
    ("create", "coordination.k8s.io", "leases"),
    ("get list update watch", "coordination.k8s.io", "leases", "kube-controller-manager"),
    ("create", "core", "secrets serviceaccounts"),
    ("delete", "core", "secrets"),
    ("get", "core", "configmaps namespaces secrets serviceaccounts"),
    ("update", "core", "secrets serviceaccounts"),
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ("list watch", "*", "*"),
    ("create", "core", "serviceaccounts/token"),
]
_SIGNING = "system:certificates.k8s.io:"

_ROLES: dict[str, list[Rule]] = {
    "cluster-admin": [("*", "*", "*")],
    "system:aggregate-to-admin": _ADMIN,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-view": _VIEW,
    "system:auth-delegator": [
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ],
    "system:basic-user": [
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    f"{_SIGNING}certificatesigningrequests:nodeclient": [
        ("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")
    ],
    f"{_SIGNING}certificatesigningrequests:selfnodeclient": [
        ("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")
    ],
    f"{_SIGNING}kube-apiserver-client-approver": [
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")
    ],
    f"{_SIGNING}kube-apiserver-client-kubelet-approver": [
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet")
    ],
    f"{_SIGNING}kubelet-serving-approver": [
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving")
    ],
    f"{_SIGNING}legacy-unknown-approver": [
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown")
    ],
    "system:discovery": [],
    "system:heapster": [
        (_READ, "core", "events namespaces nodes pods"),
        (_READ, "extensions", "deployments"),
    ],
    "system:kube-aggregator": [(_READ, "core", "endpoints services")],
    "system:kube-controller-manager": _MANAGER,
    "system:kube-dns": [("list watch", "core", "endpoints services")],
    "system:kube-scheduler": _SCHEDULER,
    "system:kubelet-api-admin": [
        (_READ, "core", "nodes"),
        ("proxy", "core", "nodes"),
        ("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
    ],
    "system:monitoring": [],
    "system:node": _NODE,
    "system:node-bootstrapper": [
        ("create get list watch", "certificates.k8s.io", "certificatesigningrequests")
    ],
    "system:node-problem-detector": [("get", "core", "nodes"), ("patch", "core", "nodes/status"), _EVENTS],
    "system:node-proxier": [
        ("list watch", "core", "endpoints services"),
        (_READ, "core", "nodes"),
        _EVENTS,
        ("list watch", "discovery.k8s.io", "endpointslices"),
    ],
    "system:persistent-volume-provisioner": [
        ("create delete get list watch", "core", "persistentvolumes"),
        ("get list update watch", "core", "persistentvolumeclaims"),
        (_READ, "storage.k8s.io", "storageclasses"),
        ("watch", "core", "events"),
        _EVENTS,
    ],
    "system:public-info-viewer": [],
    "system:service-account-issuer-discovery": [],
    "system:volume-scheduler": [
        ("get list patch update watch", "core", "persistentvolumes"),
        (_READ, "storage.k8s.io", "storageclasses"),
        ("get list patch update watch", "core", "persistentvolumeclaims"),
    ],
}
_HEALTH = "/healthz /livez /readyz"
_PATHS = {
    "cluster-admin": ("*", "*"),
    "system:discovery": (
        "get",
        f"/api /api/* /apis /apis/* {_HEALTH} /openapi /openapi/* /version /version/",
    ),
    "system:monitoring": (
        "get",
        "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
    ),
    "system:public-info-viewer": ("get", f"{_HEALTH} /version /version/"),
    "system:service-account-issuer-discovery": (
        "get",
        "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    ),
}
_AGGREGATE = f"{_GROUP}/aggregate-to-"
_TO = {
    "edit": "admin",
    "view": "edit",
    "system:aggregate-to-admin": "admin",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view",
}
_BOUND = {
    "cluster-admin": ("Group system:masters",),
    "system:basic-user": ("Group system:authenticated",),
    "system:discovery": ("Group system:authenticated",),
    "system:public-info-viewer": ("Group system:authenticated", "Group system:unauthenticated"),
    "system:monitoring": ("Group system:monitoring",),
    "system:kube-controller-manager": ("User system:kube-controller-manager",),
    "system:kube-scheduler": ("User system:kube-scheduler",),
    "system:volume-scheduler": ("User system:kube-scheduler",),
    "system:kube-dns": ("ServiceAccount kube-dns",),
    "system:node": ("Group system:nodes",),
    "system:node-proxier": ("User system:kube-proxy",),
    "system:service-account-issuer-discovery": ("Group system:serviceaccounts",),
}
_LEADER: list[Rule] = [
    ("create get list update watch", "coordination.k8s.io", "leases"),
    ("create get list update watch", "coordination.k8s.io", "leasecandidates"),
]
_NAMESPACED: dict[str, tuple[list[Rule], tuple[str, ...]]] = {
    "extension-apiserver-authentication-reader": (
        [(_READ, "core", "configmaps", "extension-apiserver-authentication")],
        ("User system:kube-controller-manager", "User system:kube-scheduler"),
    ),
    "system::leader-locking-kube-controller-manager": (_LEADER, ("User system:kube-controller-manager",)),
    "system::leader-locking-kube-scheduler": (_LEADER, ("User system:kube-scheduler",)),
}


def _meta(name: str, **more: str) -> JsonObject:
    labels = dict(_LABELS)
    if name in _TO:
        labels[_AGGREGATE + _TO[name]] = "true"
    return {"name": name, **more, "labels": labels, "annotations": dict(_ANNOTATIONS)}


def cluster_roles() -> list[JsonObject]:
    """The ClusterRoles; those that aggregate come last and without rules."""
    made = []
    for name, rules in _ROLES.items():
        role: JsonObject = {"metadata": _meta(name), "rules": [rule(*one) for one in rules]}
        if name in _PATHS:
            verbs, paths = _PATHS[name]
            role["rules"].append({"verbs": verbs.split(), "nonResourceURLs": paths.split()})
        made.append(role)
    for name in ("view", "edit", "admin"):  # each takes what the one before has
        selector = {"matchLabels": {_AGGREGATE + name: "true"}}
        made.append({"metadata": _meta(name), "aggregationRule": {"clusterRoleSelectors": [selector]}})
    return made


def _subject(text: str) -> JsonObject:
    kind, _, name = text.partition(" ")
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": "kube-system"}
    return {"kind": kind, "apiGroup": _GROUP, "name": name}


def _binding(meta: JsonObject, kind: str, subjects: tuple[str, ...]) -> JsonObject:
    return {
        "metadata": meta,
        "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": meta["name"]},
        "subjects": [_subject(one) for one in subjects],
    }


def cluster_role_bindings() -> list[JsonObject]:
    """Who has them."""
    return [_binding(_meta(name), "ClusterRole", subjects) for name, subjects in _BOUND.items()]


def roles() -> list[JsonObject]:
    """The Roles of kube-system."""
    return [
        {"metadata": _meta(name, namespace="kube-system"), "rules": [rule(*one) for one in rules]}
        for name, (rules, _) in _NAMESPACED.items()
    ]


def role_bindings() -> list[JsonObject]:
    """Who has those."""
    return [
        _binding(_meta(name, namespace="kube-system"), "Role", subjects)
        for name, (_, subjects) in _NAMESPACED.items()
    ]
