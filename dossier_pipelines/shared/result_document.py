"""What a job says when it is done: one document of one shape, in the metadata of its last step."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def result_document(job: str, results: Mapping[str, Any], *, executed_at: datetime, seconds: float) -> dict[str, Any]:
    """Return the document of a job that succeeded; ``seconds`` is how long it took."""
    return {
        "success": True,
        "job": job,
        "executedAt": executed_at.isoformat(),
        "results": dict(results),
        "executionTime": f"{seconds:.1f}s",
    }
