-- Dossiers with a value that cannot be. Grain: one row. Reads statistics and scores once each.
SELECT count(*) AS violations, (array_agg(s.dossier_id))[1:20] AS examples
FROM dossiers.health_scores AS s
JOIN dossiers.engagement_stats AS e ON e.tenant_id = s.tenant_id AND e.dossier_id = s.dossier_id
JOIN dossiers.commitment_stats AS c ON c.tenant_id = s.tenant_id AND c.dossier_id = s.dossier_id
WHERE s.engagement_frequency NOT BETWEEN 0 AND 100
    OR s.commitment_fulfillment NOT BETWEEN 0 AND 100
    OR s.recency NOT BETWEEN 0 AND 100
    OR s.overall_score NOT BETWEEN 0 AND 100
    OR e.total_engagements_365d < 0
    OR e.recent_engagements_90d NOT BETWEEN 0 AND e.total_engagements_365d
    OR least(c.active_commitments, c.overdue_commitments, c.fulfilled_commitments, c.upcoming_commitments) < 0
    OR greatest(c.active_commitments, c.overdue_commitments + c.upcoming_commitments, c.fulfilled_commitments)
        > c.total_commitments
