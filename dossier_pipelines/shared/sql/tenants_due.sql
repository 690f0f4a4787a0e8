-- Which tenants a daily job is due for: the time that came last on their own clock was not done yet, or what was done does
-- not reach to the next time, since their zone was changed. Who had none in a month is not due for a day that is over:
-- nobody knows whether it was there. begins: that time, or the present when its day is over. reached: to where what was done
-- before reaches. ends: the next time. A tenant whose records end at a moment lives at that moment.
-- Grain: one row per tenant of :among. Uses tenants_pkey, and daily_jobs_pkey by ranges of three days, at night of a month.
SELECT t.tenant_id, d.day, b.begins, c.reached, b.ends
FROM platform.tenants AS t
CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS present) AS m
CROSS JOIN LATERAL (SELECT CAST(m.present AT TIME ZONE t.timezone AS date) AS today) AS l
CROSS JOIN LATERAL (
    SELECT (l.today + make_time(CAST(:hour AS integer), 0, 0)) AT TIME ZONE t.timezone AS hour
) AS w
CROSS JOIN LATERAL (SELECT l.today - CASE WHEN w.hour <= m.present THEN 0 ELSE 1 END AS day) AS d
CROSS JOIN LATERAL (
    SELECT CASE WHEN d.day = l.today THEN w.hour ELSE m.present END AS begins,
        (d.day + 1 + make_time(CAST(:hour AS integer), 0, 0)) AT TIME ZONE t.timezone AS ends
) AS b
CROSS JOIN LATERAL (
    -- What was done in another zone has the date of that zone.
    SELECT max(j.reaches_to) AS reached, coalesce(bool_or(j.reaches_to IS NULL AND j.day = d.day), false) AS done
    FROM platform.daily_jobs AS j
    WHERE j.tenant_id = t.tenant_id AND j.job = :job AND j.day BETWEEN d.day - 1 AND d.day + 1
) AS c
WHERE t.tenant_id = ANY (CAST(:among AS text[])) AND NOT c.done AND (c.reached IS NULL OR c.reached < b.ends)
    AND (d.day = l.today OR EXISTS (
        SELECT FROM platform.daily_jobs AS j
        WHERE j.tenant_id = t.tenant_id AND j.job = :job AND j.day BETWEEN d.day - 31 AND d.day + 1
    ))
ORDER BY t.tenant_id
