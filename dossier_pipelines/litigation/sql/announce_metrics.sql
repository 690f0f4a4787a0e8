-- Note how far the metrics will reach, and with which grace of due dates; another grace marks the days that are there.
-- Returns the tenants that were not told so before. Grain: one row per tenant. Uses metric_reach_pkey.
WITH told AS MATERIALIZED (
    SELECT r.tenant_id, least(
        CAST(:last_day AS date), litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone)
    ) AS newest_day
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
),
marked AS (
    INSERT INTO litigation.metric_marks (tenant_id)
    SELECT w.tenant_id
    FROM told AS w
    CROSS JOIN LATERAL (
        SELECT k.grace FROM litigation.metric_reach AS k WHERE k.tenant_id = w.tenant_id LIMIT 1
    ) AS k
    WHERE k.grace IS DISTINCT FROM CAST(:grace AS interval)
)
INSERT INTO litigation.metric_reach AS k (tenant_id, newest_day, grace)
SELECT w.tenant_id, w.newest_day, CAST(:grace AS interval) FROM told AS w
ON CONFLICT (tenant_id) DO UPDATE SET newest_day = greatest(k.newest_day, excluded.newest_day), grace = excluded.grace
    WHERE k.newest_day < excluded.newest_day OR k.grace IS DISTINCT FROM excluded.grace
RETURNING k.tenant_id
