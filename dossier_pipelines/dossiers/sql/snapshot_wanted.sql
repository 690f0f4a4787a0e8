-- The dossiers of which alone a chunk is taken, or none: then it is taken of all. Grain: one row per dossier.
SELECT w.tenant_id COLLATE "C" AS tenant_id, w.dossier_id
FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS w (tenant_id text, dossier_id uuid, since_day date)
-- Marks that begin after the chunk leave it as it is.
WHERE coalesce(w.since_day <= CAST(:last_day AS date), true)
