"""What docs/infrastructure.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from kubewire.deadlines import Deadlines
from whimbrel.infra.guard import GuardView
from whimbrel.infra.kubernetes.accelerators import KIND_LABELS
from whimbrel.model.configreader import read_config
from whimbrel.server.metrics import Requests, render
from whimbrel.server.watchdog import Watchdog

PAGE = (Path(__file__).parents[2] / "docs" / "infrastructure.md").read_text()


def test_its_configuration_is_read_and_holds_the_defaults() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    config = read_config(text, "docs/infrastructure.md")
    assert Deadlines().override(config.every.deadlines) == Deadlines()
    assert set(config.every.deadlines) == set(Deadlines.__dataclass_fields__)
    assert config.of("far-away").deadlines["probe"] == 5


def test_every_label_and_every_metric_is_on_the_page() -> None:
    missing = [label for label in KIND_LABELS if label.rpartition("/")[2] not in PAGE]
    assert missing == []
    page = render(Requests(), {}, {"k8s/a": GuardView(state="closed")}, Watchdog())
    named = set(re.findall(r"[a-z_]{6,}", PAGE))
    metrics = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE whimbrel_")}
    untold = {
        name for name in metrics if name not in named and name.removeprefix("whimbrel_infra") not in named
    }
    assert untold <= {"whimbrel_http_requests_running", "whimbrel_loop_longest_stall_recent_seconds"}
