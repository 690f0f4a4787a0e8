-- Write the refreshed commitment statistics; a row that says the same already is not touched.
-- Grain: one row per refreshed dossier that differs. Uses commitment_stats_pkey, or reads the table once for a full refresh.
INSERT INTO dossiers.commitment_stats AS w (tenant_id, dossier_id, total_commitments, active_commitments, overdue_commitments, fulfilled_commitments, upcoming_commitments, fulfillment_rate)
SELECT r.tenant_id, r.dossier_id, r.total_commitments, r.active_commitments, r.overdue_commitments, r.fulfilled_commitments, r.upcoming_commitments, r.fulfillment_rate
FROM refreshed AS r
LEFT JOIN dossiers.commitment_stats AS s ON s.tenant_id = r.tenant_id AND s.dossier_id = r.dossier_id
WHERE (r.total_commitments, r.active_commitments, r.overdue_commitments, r.fulfilled_commitments, r.upcoming_commitments, r.fulfillment_rate)
    IS DISTINCT FROM (s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments, s.upcoming_commitments, s.fulfillment_rate)
ON CONFLICT (tenant_id, dossier_id) DO UPDATE SET
    total_commitments = excluded.total_commitments,
    active_commitments = excluded.active_commitments,
    overdue_commitments = excluded.overdue_commitments,
    fulfilled_commitments = excluded.fulfilled_commitments,
    upcoming_commitments = excluded.upcoming_commitments,
    fulfillment_rate = excluded.fulfillment_rate
