-- Which tenants a daily job is due for: its time of their own day has come, no longer ago than it stays due, and the day
-- is not done. Of two such days the later one. A tenant whose records end at a moment lives at that moment.
-- Grain: one row per tenant of :among. Uses tenants_pkey, two days of each, and daily_jobs_pkey.
SELECT DISTINCT ON (t.tenant_id) t.tenant_id, d.day
FROM platform.tenants AS t
CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS present) AS m
CROSS JOIN LATERAL (VALUES
    (CAST(m.present AT TIME ZONE t.timezone AS date)),
    (CAST(m.present AT TIME ZONE t.timezone AS date) - 1)
) AS d (day)
CROSS JOIN LATERAL (
    SELECT (d.day + make_time(CAST(:hour AS integer), CAST(:minute AS integer), 0)) AT TIME ZONE t.timezone AS begins
) AS b
WHERE t.tenant_id = ANY (CAST(:among AS text[]))
    AND b.begins <= m.present AND m.present < coalesce(
        b.begins + CAST(:hours AS double precision) * interval '1 hour',
        CAST(d.day + 1 AS timestamp) AT TIME ZONE t.timezone
    )
    AND NOT EXISTS (
        SELECT FROM platform.daily_jobs AS j WHERE j.tenant_id = t.tenant_id AND j.job = :job AND j.day = d.day
    )
ORDER BY t.tenant_id, d.day DESC
