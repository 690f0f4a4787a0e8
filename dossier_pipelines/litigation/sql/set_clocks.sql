-- Let the tenants of the source live at a moment at which its records end, by their own clocks; null: in the present.
-- Grain: one row per tenant whose clock changes. Uses tenants_pkey.
UPDATE platform.tenants AS t
SET clock_at = CAST(:local_clock AS timestamp) AT TIME ZONE t.timezone
FROM raw.tenants AS r
WHERE r.tenant_id = t.tenant_id
    AND t.clock_at IS DISTINCT FROM CAST(:local_clock AS timestamp) AT TIME ZONE t.timezone
