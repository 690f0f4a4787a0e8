-- Which dossiers get snapshots of which days, in one chunk. snapshots.py makes it a working table of its transaction.
-- Grain: one row per dossier of the tenants whose clock has reached :first_day, or of snapshot_wanted when :few; a
-- dossier that is gone has no from_day. Days: base_day is the day before the first one, whose values the first is
-- compared with; from_day the first on which the dossier exists; born whether that is the day on which it was opened.
SELECT row_number() OVER () AS ordinal, x.*,
    x.from_day - 1 AS base_day,
    platform.day_end(x.from_day - 1, x.timezone) AS base_end,
    platform.day_end(x.from_day - 1, x.timezone) - 365 * interval '24 hours' AS window_start,
    platform.day_end(x.last_day, x.timezone) AS last_end
FROM (
    SELECT c.tenant_id, c.dossier_id, r.timezone, r.first_day, r.last_day,
        CASE WHEN d.type = ANY (CAST(:settings_types AS text[])) THEN d.type ELSE '*' END AS settings_type,
        CASE WHEN d.id IS NOT NULL THEN greatest(r.first_day, o.opened) END AS from_day,
        coalesce(o.opened >= r.first_day, false) AS born
    FROM (
        SELECT t.tenant_id, t.timezone, CAST(:first_day AS date) AS first_day,
            least(
                CAST(:last_day AS date),
                CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date)
            ) AS last_day
        FROM platform.tenants AS t
        WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
    ) AS r
    JOIN (
        SELECT e.tenant_id, e.id AS dossier_id FROM raw.dossiers AS e WHERE NOT CAST(:few AS boolean)
        UNION ALL
        SELECT w.tenant_id, w.dossier_id FROM snapshot_wanted AS w WHERE CAST(:few AS boolean)
    ) AS c ON c.tenant_id = r.tenant_id
    LEFT JOIN raw.dossiers AS d ON d.tenant_id = c.tenant_id AND d.id = c.dossier_id
    CROSS JOIN LATERAL (SELECT platform.first_day(d.created_at, r.timezone) AS opened OFFSET '0') AS o
    WHERE r.first_day <= r.last_day
) AS x
