-- Forget the days that have not come to their end for a tenant that is marked from its first day on, as one that moved west
-- is: they are taken when they end there. Grain: one row per tenant with such days. Reads the marks, which are few; uses
-- metric_reach_pkey, daily_metrics_pkey and anomalies_pkey by ranges of such a tenant.
WITH ahead AS MATERIALIZED (
    SELECT r.tenant_id, m.newest_day
    FROM litigation.metric_reach AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    CROSS JOIN LATERAL (
        -- The run may have waited for one that took the day which ended meanwhile.
        SELECT litigation.newest_whole_day(
            coalesce(t.clock_at, greatest(CAST(:now AS timestamptz), clock_timestamp())), t.timezone
        ) AS newest_day
        OFFSET '0'
    ) AS m
    WHERE r.newest_day > m.newest_day
        AND r.tenant_id IN (SELECT k.tenant_id FROM litigation.metric_marks AS k WHERE k.taken AND k.since IS NULL)
),
metrics AS (
    DELETE FROM litigation.daily_metrics AS d USING ahead AS a WHERE d.tenant_id = a.tenant_id AND d.day > a.newest_day
),
unusual AS (
    DELETE FROM litigation.anomalies AS d USING ahead AS a WHERE d.tenant_id = a.tenant_id AND d.day > a.newest_day
)
UPDATE litigation.metric_reach AS r SET newest_day = a.newest_day FROM ahead AS a WHERE r.tenant_id = a.tenant_id
