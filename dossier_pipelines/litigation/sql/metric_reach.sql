-- Up to which day there can be metrics of the tenants, and from which on there are records. Grain: one row.
-- Reads the cases of the tenants once, by cases_pkey; the days of a run are looked up once a run.
SELECT max(litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone)) AS newest,
    min((SELECT platform.first_day(min(c.created_at), t.timezone) FROM raw.cases AS c WHERE c.tenant_id = t.tenant_id)) AS oldest
FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
