-- The days of the tenants whose marks are taken: from the earliest mark on, or from the oldest day.
-- Grain: one row per tenant that has a day. Reads the marks, which are few; uses daily_metrics_pkey by probes.
SELECT k.tenant_id,
    CASE WHEN bool_or(k.since IS NULL) THEN o.oldest ELSE greatest(o.oldest, platform.first_day(min(k.since), t.timezone)) END
        AS first_day,
    r.newest_day
FROM litigation.metric_marks AS k
JOIN platform.tenants AS t ON t.tenant_id = k.tenant_id
JOIN litigation.metric_reach AS r ON r.tenant_id = k.tenant_id
CROSS JOIN LATERAL (
    SELECT m.day AS oldest FROM litigation.daily_metrics AS m
    WHERE m.tenant_id = k.tenant_id AND m.metric = 'case_count' ORDER BY m.day LIMIT 1
) AS o
WHERE k.taken
GROUP BY k.tenant_id, r.newest_day, o.oldest, t.timezone
HAVING min(coalesce(k.since, '-infinity')) <= platform.day_end(r.newest_day, t.timezone)
ORDER BY k.tenant_id
