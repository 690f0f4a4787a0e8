-- Leave alone what has deliveries already: somebody marked it again. A statement of its own, so that it sees what whoever
-- held the other mark has committed meanwhile. Grain: one row per such notification. Uses deliveries_pkey by a probe each,
-- which the fence makes sure of.
DELETE FROM planning AS p
WHERE EXISTS (
    SELECT FROM notifications.deliveries AS d WHERE d.tenant_id = p.tenant_id AND d.notification_id = p.id OFFSET '0'
)
