-- Note of which days there is a snapshot. Grain: one row per tenant and day. Uses snapshot_days_pkey.
INSERT INTO dossiers.snapshot_days (tenant_id, day, year)
SELECT r.tenant_id, CAST(d.day AS date), CAST(date_trunc('year', d.day) AS date)
FROM (SELECT DISTINCT k.tenant_id, k.first_day, k.last_day FROM snapshot_scope AS k) AS r
CROSS JOIN LATERAL generate_series(
    CAST(r.first_day AS timestamp), CAST(r.last_day AS timestamp), interval '1 day'
) AS d (day)
ON CONFLICT DO NOTHING
