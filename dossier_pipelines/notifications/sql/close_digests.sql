-- Close digests that are about to be sent: from now on their content stands. Waits for whoever is adding to one.
-- Grain: one row per digest. Uses daily_counts_pkey by way of the digest's person and day.
UPDATE notifications.daily_counts AS c SET digest_id = NULL
FROM notifications.notifications AS n
WHERE n.tenant_id = :tenant_id AND n.id = ANY (CAST(:digests AS uuid[]))
    AND c.tenant_id = n.tenant_id AND c.user_id = n.user_id AND c.day = n.day AND c.digest_id = n.id
