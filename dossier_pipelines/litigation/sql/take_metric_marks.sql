-- Take the marks that are visible now: which tenants have to be taken anew, and from which day on.
-- Grain: one row per tenant. Reads the marks, which are few: restating takes them away.
WITH taken AS (
    DELETE FROM litigation.metric_marks RETURNING tenant_id, since
)
SELECT k.tenant_id, r.newest_day,
    CASE WHEN bool_or(k.since IS NULL) THEN o.oldest ELSE greatest(o.oldest, platform.first_day(min(k.since), t.timezone)) END
        AS first_day
FROM taken AS k
JOIN platform.tenants AS t ON t.tenant_id = k.tenant_id
JOIN litigation.metric_reach AS r ON r.tenant_id = k.tenant_id
CROSS JOIN LATERAL (
    SELECT min(m.day) AS oldest FROM litigation.daily_metrics AS m WHERE m.tenant_id = k.tenant_id AND m.metric = 'case_count'
) AS o
WHERE o.oldest IS NOT NULL
GROUP BY k.tenant_id, r.newest_day, o.oldest, t.timezone
ORDER BY k.tenant_id
