-- The totals of one tenant after a run. Grain: one row. Counts by the leading column of each primary key.
SELECT
    (SELECT t.timezone FROM platform.tenants AS t WHERE t.tenant_id = :tenant_id) AS timezone,
    -- As the refresh has it: what was asked for, else the clock of a tenant that has one, else when the run began.
    coalesce(
        CAST(:as_of AS timestamptz),
        (SELECT t.clock_at FROM platform.tenants AS t WHERE t.tenant_id = :tenant_id),
        (SELECT min(l.started_at) FROM ingestion.loads AS l WHERE l.tenant_id = :tenant_id AND l.run_id = :run_id)
    ) AS as_of,
    (SELECT count(*) FROM raw.dossiers AS r WHERE r.tenant_id = :tenant_id) AS dossiers,
    (SELECT count(*) FROM raw.engagements AS r WHERE r.tenant_id = :tenant_id) AS engagements,
    (SELECT count(*) FROM raw.commitments AS r WHERE r.tenant_id = :tenant_id) AS commitments,
    (SELECT count(*) FROM raw.documents AS r WHERE r.tenant_id = :tenant_id) AS documents,
    (SELECT count(*) FROM raw.users AS r WHERE r.tenant_id = :tenant_id) AS users,
    (
        SELECT CAST(coalesce(sum(l.rejected), 0) AS bigint) FROM ingestion.loads AS l
        WHERE l.tenant_id = :tenant_id AND l.run_id = :run_id
    ) AS rejected_rows,
    (
        SELECT count(*) FROM notifications.notifications AS n
        WHERE n.tenant_id = :tenant_id AND n.run_id = :run_id AND n.kind <> 'digest'
    ) AS notifications,
    s.scored, s.insufficient_data, s.average_score, s.excellent, s.good, s.fair, s.poor, c.overdue_commitments
FROM (
    SELECT
        count(h.overall_score) AS scored,
        count(*) FILTER (WHERE h.band = 'insufficient_data') AS insufficient_data,
        round(avg(h.overall_score), 2) AS average_score,
        count(*) FILTER (WHERE h.band = 'excellent') AS excellent,
        count(*) FILTER (WHERE h.band = 'good') AS good,
        count(*) FILTER (WHERE h.band = 'fair') AS fair,
        count(*) FILTER (WHERE h.band = 'poor') AS poor
    FROM dossiers.health_scores AS h WHERE h.tenant_id = :tenant_id
) AS s
CROSS JOIN (
    SELECT coalesce(sum(o.overdue_commitments), 0) AS overdue_commitments
    FROM dossiers.commitment_stats AS o WHERE o.tenant_id = :tenant_id
) AS c
