-- What each record does to the statistics of its dossier on which day of the chunk: one pass over the records, no day by
-- day. Grain: one row of a working table per record and day on which it counts in, counts out, or moves recency; what was
-- before the first day is on the day before it. happened and id say what people are told of it.
-- Engagements come from engagements_dossier_occurred_idx, commitments from commitments_dossier_idx with their entries of
-- commitment_history_pkey; for all dossiers the planner reads the tables once instead.
WITH scope AS (
    SELECT * FROM snapshot_scope AS s WHERE s.from_day <= s.last_day
),
engagement AS (
    SELECT s.ordinal, s.base_day, s.base_end, s.last_end, s.timezone, e.id, e.occurred_at, true AS in_window,
        h.fresh_days, h.recent_days, h.distant_days
    FROM scope AS s
    JOIN raw.engagements AS e ON e.tenant_id = s.tenant_id AND e.dossier_id = s.dossier_id
        AND e.occurred_at BETWEEN s.window_start AND s.last_end
    LEFT JOIN dossiers.health_settings AS h
        ON h.tenant_id = s.tenant_id AND h.version = :version AND h.dossier_type = s.settings_type
    UNION ALL
    -- The newest one before the window counts in nothing but recency.
    SELECT s.ordinal, s.base_day, s.base_end, s.last_end, s.timezone, NULL, l.latest, false, h.fresh_days, h.recent_days, h.distant_days
    FROM scope AS s
    LEFT JOIN dossiers.health_settings AS h
        ON h.tenant_id = s.tenant_id AND h.version = :version AND h.dossier_type = s.settings_type
    CROSS JOIN LATERAL (
        SELECT max(o.occurred_at) AS latest FROM raw.engagements AS o
        WHERE o.tenant_id = s.tenant_id AND o.dossier_id = s.dossier_id AND o.occurred_at < s.window_start
    ) AS l
    WHERE l.latest IS NOT NULL
),
-- Windows include both ends: an engagement leaves just after its 90 or 365 days; a step of recency begins with the start
-- of a further whole day.
engaged AS (
    SELECT e.ordinal, v.day, v.in_year, v.in_quarter, v.latest, e.id,
        CASE WHEN v.day = e.base_day THEN NULL WHEN v.in_year > 0 THEN 'engagements_added'
            WHEN v.in_year < 0 THEN 'engagements_aged' END AS happened
    FROM engagement AS e
    CROSS JOIN LATERAL (
        SELECT CASE WHEN x.moment > e.base_end THEN platform.first_day(x.moment, e.timezone) ELSE e.base_day END,
            x.in_year, x.in_quarter, x.latest
        FROM (VALUES
            (e.occurred_at, CAST(e.in_window AS integer), CAST(e.in_window AS integer), e.occurred_at),
            (e.occurred_at + 90 * interval '24 hours' + interval '1 microsecond', 0, - CAST(e.in_window AS integer), NULL),
            (e.occurred_at + 365 * interval '24 hours' + interval '1 microsecond', - CAST(e.in_window AS integer), 0, NULL),
            (e.occurred_at + (e.fresh_days + 1) * interval '24 hours', 0, 0, NULL),
            (e.occurred_at + (e.recent_days + 1) * interval '24 hours', 0, 0, NULL),
            (e.occurred_at + (e.distant_days + 1) * interval '24 hours', 0, 0, NULL)
        ) AS x (moment, in_year, in_quarter, latest)
        WHERE x.moment <= e.last_end
        OFFSET '0'
    ) AS v (day, in_year, in_quarter, latest)
),
-- The days of each status: from the first day by whose end it holds, up to the day before another one does.
held AS (
    SELECT s.ordinal, s.base_day, s.last_day, c.id, c.due_date, h.status,
        f.day AS from_day, least(min(f.day) OVER later, s.last_day + 1) AS until_day
    FROM scope AS s
    JOIN raw.commitments AS c ON c.tenant_id = s.tenant_id AND c.dossier_id = s.dossier_id
    JOIN dossiers.commitment_history AS h ON h.tenant_id = c.tenant_id AND h.commitment_id = c.id
    -- Most of it is long past; what day that was nobody asks.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN greatest(h.valid_from, c.created_at) > s.base_end
            THEN platform.first_day(greatest(h.valid_from, c.created_at), s.timezone) ELSE s.base_day END AS day
        OFFSET '0'
    ) AS f
    WINDOW later AS (
        PARTITION BY s.ordinal, c.id ORDER BY h.ordinal DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
-- Per commitment first, so that what one status ends and the next begins is no change; on the day before the first,
-- which tells nothing, all of a dossier's together.
committed AS (
    SELECT d.ordinal, CASE WHEN v.day > d.base_day THEN d.id END AS id, d.base_day, v.day,
        sum(v.total) AS total, sum(v.active) AS active, sum(v.fulfilled) AS fulfilled,
        sum(v.overdue) AS overdue, sum(v.upcoming) AS upcoming
    FROM held AS d
    CROSS JOIN LATERAL (
        SELECT (d.status <> 'cancelled')::integer AS counts, (d.status IN ('pending', 'in_progress'))::integer AS active,
            (d.status = 'completed')::integer AS done,
            d.status IN ('pending', 'in_progress', 'overdue') AND d.due_date IS NOT NULL AS open,
            greatest(d.from_day, d.due_date + 1) AS late_day,
            greatest(d.from_day, d.due_date - 30) AS upcoming_day, least(d.until_day, d.due_date + 1) AS due_day
        OFFSET '0'
    ) AS s
    CROSS JOIN LATERAL (
        SELECT d.from_day, s.counts, s.active, s.done, 0, 0 WHERE s.counts > 0
        UNION ALL
        SELECT d.until_day, -s.counts, -s.active, -s.done, 0, 0 WHERE s.counts > 0
        UNION ALL
        SELECT x.day, 0, 0, 0, x.step, 0 FROM (VALUES (s.late_day, 1), (d.until_day, -1)) AS x (day, step)
        WHERE s.open AND s.late_day < d.until_day
        UNION ALL
        SELECT x.day, 0, 0, 0, 0, x.step FROM (VALUES (s.upcoming_day, 1), (s.due_day, -1)) AS x (day, step)
        WHERE s.open AND s.upcoming_day < s.due_day
    ) AS v (day, total, active, fulfilled, overdue, upcoming)
    WHERE d.from_day < d.until_day AND v.day <= d.last_day
    GROUP BY d.ordinal, 2, d.base_day, v.day
)
SELECT e.ordinal, e.day, e.in_year, e.in_quarter, e.latest, 0 AS total, 0 AS active, 0 AS fulfilled, 0 AS overdue,
    0 AS upcoming, e.happened, e.id
FROM engaged AS e
UNION ALL
SELECT c.ordinal, c.day, 0, 0, NULL, CAST(c.total AS integer), CAST(c.active AS integer), CAST(c.fulfilled AS integer),
    CAST(c.overdue AS integer), CAST(c.upcoming AS integer), NULL, c.id
FROM committed AS c
UNION ALL
-- What one commitment did may be two things: it was completed, and is no longer overdue.
SELECT c.ordinal, c.day, 0, 0, NULL, 0, 0, 0, 0, 0, h.happened, c.id
FROM committed AS c
CROSS JOIN LATERAL (VALUES
    (CASE WHEN c.overdue > 0 THEN 'commitments_overdue' WHEN c.overdue < 0 THEN 'commitments_no_longer_overdue' END),
    (CASE WHEN c.fulfilled > 0 THEN 'commitments_fulfilled'
        WHEN c.fulfilled < 0 AND c.total = 0 THEN 'commitments_reopened' END),
    (CASE WHEN c.total > 0 THEN 'commitments_added' WHEN c.total < 0 THEN 'commitments_gone' END)
) AS h (happened)
WHERE h.happened IS NOT NULL AND c.day > c.base_day
