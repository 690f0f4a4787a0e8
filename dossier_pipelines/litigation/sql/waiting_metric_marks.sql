-- How long late records wait to be in the metrics. Grain: one row. Reads the marks that wait, which are few.
SELECT count(*) AS marks,
    extract(epoch FROM clock_timestamp() - min(m.marked_at)) AS oldest_seconds,
    extract(epoch FROM clock_timestamp() - max(m.marked_at)) AS newest_seconds
FROM litigation.metric_marks AS m
