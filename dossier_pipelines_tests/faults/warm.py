"""What the fork server does once, before any process is forked from it: everything that is slow the first time."""

from __future__ import annotations

import ssl

import dagster as dg
import stamina  # noqa: F401

from dossier_pipelines.notifications.rendering import _templates
from dossier_pipelines_tests.faults import test_litigation_killed, test_rules_killed, work  # noqa: F401

ssl.create_default_context()
for name in ("digest", "message"):
    _templates(name)
dg.DagsterInstance.ephemeral().dispose()
