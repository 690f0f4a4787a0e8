-- What happens to each statistic of a dossier on which day.
-- Grain: one row of a working table per dossier and day with events; besides, the day before the first, the first, and
-- the first of every year.
SELECT x.ordinal, x.day,
    sum(x.in_year) AS in_year, sum(x.in_quarter) AS in_quarter, max(x.latest) AS latest,
    sum(x.total) AS total, sum(x.active) AS active, sum(x.fulfilled) AS fulfilled, sum(x.overdue) AS overdue,
    sum(x.upcoming) AS upcoming
FROM (
    SELECT e.ordinal, e.day, e.in_year, e.in_quarter, e.latest, e.total, e.active, e.fulfilled, e.overdue, e.upcoming
    FROM snapshot_events AS e
    UNION ALL
    SELECT s.ordinal, d.day, 0, 0, NULL, 0, 0, 0, 0, 0
    FROM snapshot_scope AS s
    CROSS JOIN LATERAL (
        SELECT s.base_day UNION ALL SELECT s.from_day
        UNION ALL
        SELECT CAST(y.year AS date)
        FROM generate_series(
            date_trunc('year', CAST(s.from_day AS timestamp)) + interval '1 year',
            CAST(s.last_day AS timestamp), interval '1 year'
        ) AS y (year)
    ) AS d (day)
    WHERE s.from_day <= s.last_day
) AS x
GROUP BY x.ordinal, x.day
