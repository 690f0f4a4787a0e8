-- Remove the taken marks of tenants whose days are taken anew, or all that are left. Grain: one row per mark.
-- Reads the marks, which are few.
DELETE FROM litigation.metric_marks AS k
WHERE k.taken AND (k.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL)
