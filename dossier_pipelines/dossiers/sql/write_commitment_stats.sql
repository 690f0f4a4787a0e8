-- Write the refreshed commitment statistics; a row that says the same already is not touched.
-- Grain: one row per refreshed dossier. Uses commitment_stats_pkey.
INSERT INTO dossiers.commitment_stats AS s (tenant_id, dossier_id, total_commitments, active_commitments, overdue_commitments, fulfilled_commitments, upcoming_commitments, fulfillment_rate)
SELECT tenant_id, dossier_id, total_commitments, active_commitments, overdue_commitments, fulfilled_commitments, upcoming_commitments, fulfillment_rate FROM refreshed
ON CONFLICT (tenant_id, dossier_id) DO UPDATE SET
    total_commitments = excluded.total_commitments,
    active_commitments = excluded.active_commitments,
    overdue_commitments = excluded.overdue_commitments,
    fulfilled_commitments = excluded.fulfilled_commitments,
    upcoming_commitments = excluded.upcoming_commitments,
    fulfillment_rate = excluded.fulfillment_rate
WHERE (s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments, s.upcoming_commitments, s.fulfillment_rate)
    IS DISTINCT FROM (excluded.total_commitments, excluded.active_commitments, excluded.overdue_commitments, excluded.fulfilled_commitments, excluded.upcoming_commitments, excluded.fulfillment_rate)
