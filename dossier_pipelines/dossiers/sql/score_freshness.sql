-- How many scores are young enough. Grain: one row. Where a tenant's clock stands still its scores do not age.
SELECT count(*) AS scored, count(*) FILTER (WHERE a.age < make_interval(mins => :minutes)) AS fresh,
    CAST(floor(extract(epoch FROM max(a.age)) / 60) AS integer) AS oldest_minutes
FROM dossiers.health_scores AS s
JOIN platform.tenants AS t ON t.tenant_id = s.tenant_id
CROSS JOIN LATERAL (
    SELECT greatest(interval '0', CASE WHEN t.clock_at IS NULL THEN CAST(:now AS timestamptz) - s.calculated_at
        ELSE t.clock_at - s.as_of END) AS age
) AS a
WHERE s.overall_score IS NOT NULL
