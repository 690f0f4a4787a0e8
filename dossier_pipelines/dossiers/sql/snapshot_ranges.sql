-- The days that have to be taken anew for the given marks: those of which there are snapshots, in unbroken ranges.
-- Grain: one row per tenant and range. Uses snapshot_days_pkey.
SELECT d.tenant_id, min(d.day) AS first_day, max(d.day) AS last_day
FROM (
    SELECT s.tenant_id, s.day, s.day - CAST(row_number() OVER (PARTITION BY s.tenant_id ORDER BY s.day) AS integer) AS range
    FROM (
        SELECT m.tenant_id, min(coalesce(m.since_day, '-infinity')) AS since_day
        FROM jsonb_to_recordset(CAST(:marks AS jsonb)) AS m (tenant_id text, since_day date)
        GROUP BY m.tenant_id
    ) AS x
    JOIN dossiers.snapshot_days AS s ON s.tenant_id = x.tenant_id AND s.day >= x.since_day
) AS d
GROUP BY d.tenant_id, d.range
ORDER BY d.tenant_id, min(d.day)
