-- The newest day that has come to its end for every tenant, and the day :most before it, or that of the first record.
-- Grain: one row, of nulls without a record. Reads the cases once.
SELECT greatest(x.last_day - CAST(extract(day FROM CAST(:most AS interval)) AS integer), x.oldest) AS first_day,
    CASE WHEN x.oldest <= x.last_day THEN x.last_day END AS last_day
FROM (
    SELECT min(litigation.newest_whole_day(coalesce(t.clock_at, clock_timestamp()), t.timezone)) AS last_day,
        min(o.day) AS oldest
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    CROSS JOIN LATERAL (
        SELECT platform.first_day(min(c.created_at), t.timezone) AS day FROM raw.cases AS c WHERE c.tenant_id = r.tenant_id
    ) AS o
) AS x
WHERE x.oldest <= x.last_day
UNION ALL
SELECT NULL, NULL
LIMIT 1
