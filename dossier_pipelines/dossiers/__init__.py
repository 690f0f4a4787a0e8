"""Dossiers: how healthy each relationship is, which promises are late, and how that moved.

Owns the raw tables dossiers, engagements, commitments, documents and users; writes the schema ``dossiers``
(engagement_stats, commitment_stats, health_scores, health_settings, health_refreshes and the views
dossier_overview and health_by_group). Feeds analysts, and later the desks that send notifications.
"""
