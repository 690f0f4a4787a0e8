-- Up to which day there can be snapshots, and whether there is any record by the end of :first_day.
-- Grain: one row. Uses the primary keys and engagements_dossier_occurred_idx, up to the first record that is old enough.
SELECT max(m.today) AS newest, coalesce(bool_or(
    EXISTS (
        SELECT FROM raw.dossiers AS d WHERE d.tenant_id = t.tenant_id AND d.created_at <= m.first_end
    ) OR EXISTS (
        SELECT FROM raw.commitments AS c
        WHERE c.tenant_id = t.tenant_id AND coalesce(c.created_at <= m.first_end, true)
    ) OR EXISTS (
        SELECT FROM raw.engagements AS e WHERE e.tenant_id = t.tenant_id AND e.occurred_at <= m.first_end
    )
), false) AS any_record
FROM platform.tenants AS t
CROSS JOIN LATERAL (
    SELECT CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date) AS today,
        platform.day_end(CAST(:first_day AS date), t.timezone) AS first_end
) AS m
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
