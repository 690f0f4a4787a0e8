-- Note how far the metrics will reach, and with which grace of due dates; another grace marks the days that are there.
-- Returns the tenants that were not told so before; the rows of the others stay unlocked.
-- Grain: one row per tenant. Uses tenants_pkey, metric_reach_pkey by probes.
WITH told AS MATERIALIZED (
    SELECT r.tenant_id, m.newest_day, k.grace
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    CROSS JOIN LATERAL (
        SELECT least(
            CAST(:last_day AS date), litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone)
        ) AS newest_day
        OFFSET '0'
    ) AS m
    LEFT JOIN LATERAL (
        SELECT o.newest_day, o.grace FROM litigation.metric_reach AS o WHERE o.tenant_id = r.tenant_id LIMIT 1
    ) AS k ON true
    WHERE (r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL)
        AND (k.newest_day IS NULL OR k.newest_day < m.newest_day OR k.grace <> CAST(:grace AS interval))
),
marked AS (
    INSERT INTO litigation.metric_marks (tenant_id)
    SELECT w.tenant_id FROM told AS w WHERE w.grace <> CAST(:grace AS interval)
)
INSERT INTO litigation.metric_reach AS k (tenant_id, newest_day, grace)
SELECT w.tenant_id, w.newest_day, CAST(:grace AS interval) FROM told AS w
ON CONFLICT (tenant_id) DO UPDATE SET newest_day = greatest(k.newest_day, excluded.newest_day), grace = excluded.grace
RETURNING k.tenant_id
