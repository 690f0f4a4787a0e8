-- Close digests that are about to be sent: from now on their content stands. Waits for whoever is adding to one, in the
-- order in which plan_deliveries takes its locks, so that the two cannot deadlock.
-- Grain: one row per digest. Uses daily_counts_pkey by way of the digest's person and day.
WITH open AS MATERIALIZED (
    SELECT c.tenant_id, c.user_id, c.day FROM notifications.notifications AS n
    JOIN notifications.daily_counts AS c
        ON c.tenant_id = n.tenant_id AND c.user_id = n.user_id AND c.day = CAST(n.metadata ->> 'day' AS date)
        AND c.digest_id = n.id
    WHERE n.tenant_id = :tenant_id AND n.id = ANY (CAST(:digests AS uuid[]))
    ORDER BY c.tenant_id, c.user_id, c.day
    FOR UPDATE OF c
)
UPDATE notifications.daily_counts AS c SET digest_id = NULL
FROM open AS o
WHERE c.tenant_id = o.tenant_id AND c.user_id = o.user_id AND c.day = o.day
