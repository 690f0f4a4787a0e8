"""From which columns each computed column comes: the data dictionary's other half."""

from typing import Final

OCCURRED: Final = [("raw/engagements", "occurred_at")]
OF_COMMITMENT: Final = [
    ("raw/commitments", "status"),
    ("raw/commitments", "created_at"),
    ("raw/commitments", "completed_at"),
    ("raw/commitments", "cancelled_at"),
]
WITH_DUE_DATE: Final = [*OF_COMMITMENT, ("raw/commitments", "due_date")]
FREQUENCY: Final = [("dossiers/engagement_stats", "engagement_frequency_score")]
FULFILLMENT: Final = [("dossiers/commitment_stats", "fulfillment_rate")]
LATEST: Final = [("dossiers/engagement_stats", "latest_engagement_date")]
COUNTED: Final = [
    ("dossiers/engagement_stats", "total_engagements_365d"),
    ("dossiers/commitment_stats", "total_commitments"),
]

ENGAGEMENT_STATS: Final = {
    "total_engagements_365d": OCCURRED,
    "recent_engagements_90d": OCCURRED,
    "latest_engagement_date": OCCURRED,
    "engagement_frequency_score": OCCURRED,
}
COMMITMENT_STATS: Final = {
    "total_commitments": OF_COMMITMENT,
    "active_commitments": OF_COMMITMENT,
    "overdue_commitments": WITH_DUE_DATE,
    "fulfilled_commitments": OF_COMMITMENT,
    "upcoming_commitments": WITH_DUE_DATE,
    "fulfillment_rate": OF_COMMITMENT,
}
HEALTH_SCORES: Final = {
    "engagement_frequency": FREQUENCY,
    "commitment_fulfillment": FULFILLMENT,
    "recency": LATEST,
    "overall_score": [*FREQUENCY, *FULFILLMENT, *LATEST, *COUNTED],
    "band": [*FREQUENCY, *FULFILLMENT, *LATEST, *COUNTED],
    "insufficient_reason": COUNTED,
}
COMMITMENT_HISTORY: Final = {
    "commitment_id": [("raw/commitments", "id")],
    "status": OF_COMMITMENT,
    "valid_from": OF_COMMITMENT,
}
OF_HISTORY: Final = [("dossiers/commitment_history", "status"), ("dossiers/commitment_history", "valid_from")]
SCORED: Final = [*OCCURRED, *OF_HISTORY]
DAILY_SNAPSHOTS: Final = {
    **dict.fromkeys(ENGAGEMENT_STATS, OCCURRED),
    **dict.fromkeys(COMMITMENT_STATS, OF_HISTORY),
    "recency": OCCURRED,
    "overall_score": SCORED,
    "band": SCORED,
    "insufficient_reason": SCORED,
    "previous_score": SCORED,
    "score_change": SCORED,
    "factors": SCORED,
}
