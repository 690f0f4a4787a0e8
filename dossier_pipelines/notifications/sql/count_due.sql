-- How many deliveries are due by the given channels; counted no further than :enough.
-- Grain: one row. Uses deliveries_due_idx, one channel at a time.
SELECT count(*) AS due FROM (
    SELECT FROM unnest(CAST(:channels AS text[])) AS c (channel)
    CROSS JOIN LATERAL (
        SELECT d.channel FROM notifications.deliveries AS d
        WHERE d.status IN ('queued', 'sending', 'failed') AND d.channel = c.channel
            AND d.next_attempt_at <= clock_timestamp()
        LIMIT :enough
    ) AS first
    LIMIT :enough
) AS counted
